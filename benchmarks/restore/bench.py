"""Measurements of pause, resume, fork and create, each as a ratio against a floor or peer of the same run.

usage: bench.py [NAME...]     names: resume create size cache pause fork density
"""

import glob
import json
import os
import re
import sqlite3
import statistics
import sys
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.dirname(HERE), HERE]

import bare
import bench
import minimal
from bench import MARTLET, Server, ms, report

MIB = 1 << 20


class RestoreServer(Server):
    """The server under test, and its journal's entries of sandboxes."""

    @property
    def store(self):
        return os.path.join(self.data, "snapshots")

    def supports_pause(self):
        return self.call("POST", "/v1/sandboxes/sb-00000000-0000-4000-8000-000000000000/pause")[1].get("error", {}).get("code") == "not_found"

    def entry(self, sandbox):
        with sqlite3.connect(f"file:{self.data}/journal.db?mode=ro", uri=True) as journal:
            (text,) = journal.execute("SELECT entry FROM sandbox WHERE id = ?", (sandbox["id"].removeprefix("sb-"),)).fetchone()
        return json.loads(text)

    def change(self, sandbox, verb):
        status, answer = self.call("POST", f"/v1/sandboxes/{sandbox['id']}/{verb}")
        assert status == 200, answer
        return answer

    def execute(self, sandbox):
        status, answer = self.call("POST", f"/v1/sandboxes/{sandbox['id']}/exec", {"cmd": "/bin/true", "user": "root"})
        assert status == 200 and answer["exit_code"] == 0, answer

    def fork(self, sandbox, count):
        status, answer = self.call("POST", f"/v1/sandboxes/{sandbox['id']}/fork", {"count": count})
        assert status == 201, answer
        return answer

    def vmm(self, sandbox):
        """The VMM of a running sandbox."""
        name = f"guest={self.entry(sandbox)['instance']},".encode()
        for path in glob.glob("/proc/[0-9]*/cmdline"):
            try:
                with open(path, "rb") as file:
                    if name in file.read():
                        return int(path.split("/")[2])
            except OSError:
                pass
        raise AssertionError("the sandbox has no VMM")

    def generation_files(self, sandbox):
        """All files that a restore of the newest generation may read."""
        return glob.glob(os.path.join(self.store, "generations/*/*"))


def drop_from_cache(paths):
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def timings(answer):
    phases = answer.get("timings_ms") or {}
    return " ".join(f"{name} {value:.0f}" for name, value in phases.items())


def resumed(server, sandbox):
    """Returns seconds from the request to the first exec result, and the server's own phases."""
    begin = time.monotonic()
    answer = server.change(sandbox, "resume")
    server.execute(sandbox)
    return time.monotonic() - begin, answer


def bench_resume(server, runs=7):
    """Resume to the first exec's result, against the same generation restored by QEMU, pager and monitor alone."""
    sandbox = server.create()
    server.execute(sandbox)
    khz = bench.tsc_kilohertz(server, sandbox)
    server.change(sandbox, "pause")
    server.change(sandbox, "resume")
    words = bare.command_line(server.vmm(sandbox))
    server.change(sandbox, "pause")
    ours, floors, smallest, phases = [], [], [], ""
    with bare.namespace():
        tiny = minimal.MinimalGuest(words, os.path.realpath(os.path.join(bench.IMAGES, "kernel")), khz)
        try:
            for _ in range(runs):
                entry = server.entry(sandbox)
                steps = bare.restore(words, MARTLET, server.store, entry["generations"][0], entry["accessToken"])
                floors.append(steps["exec"])
                smallest.append(tiny.restore())
                seconds, answer = resumed(server, sandbox)
                ours.append(seconds * 1000)
                phases = timings(answer)
                server.change(sandbox, "pause")
        finally:
            tiny.close()
    ours, floor, tiny_floor = (statistics.median(values) for values in (ours, floors, smallest))
    detail = " ".join(f"{name} {value:.0f}" for name, value in steps.items())
    report("resume to first exec / bare restore", f"{ours / floor:.2f}", "≤ 1.5", ours / floor <= 1.5,
           f"{ours:.0f} / {floor:.0f} ms; ours: {phases}; floor: {detail}")
    report("resume to first exec / bare restore with the smallest agent", f"{ours / tiny_floor:.2f}", "side by side", True,
           f"{ours:.0f} / {tiny_floor:.0f} ms")
    server.destroy(sandbox)


def created(server, **fields):
    begin = time.monotonic()
    sandbox = server.create(**fields)
    server.execute(sandbox)
    return time.monotonic() - begin, sandbox


def bench_create(server, runs=7):
    """Create from a template with a snapshot, against a bare restore of a paused sandbox of that template."""
    server.destroy(created(server)[1])
    sandbox = server.create()
    server.change(sandbox, "pause")
    server.change(sandbox, "resume")
    words = bare.command_line(server.vmm(sandbox))
    server.change(sandbox, "pause")
    entry = server.entry(sandbox)
    ours, floors, phases = [], [], ""
    with bare.namespace():
        for _ in range(runs):
            floors.append(bare.restore(words, MARTLET, server.store, entry["generations"][0], entry["accessToken"])["exec"])
            seconds, new = created(server)
            ours.append(seconds * 1000)
            phases = timings(new)
            server.destroy(new)
    ours, floor = statistics.median(ours), statistics.median(floors)
    report("create from a warm template to first exec / bare restore", f"{ours / floor:.2f}", "≤ 1.5", ours / floor <= 1.5,
           f"{ours:.0f} / {floor:.0f} ms; {phases}")
    server.destroy(sandbox)


def bench_size(server, runs=5):
    """Resume of a guest of 4 GiB with 1 GiB of content, against one of 256 MiB."""
    medians = {}
    for memory, content in ((256, 32), (4096, 1024)):
        sandbox = server.create(memory_mb=memory)
        server.shell(sandbox, f"mkdir -p /tmp/m; mount -t tmpfs -o size=90% none /tmp/m; head -c {content << 20} /dev/urandom > /tmp/m/a", 300)
        times = []
        for _ in range(runs):
            server.change(sandbox, "pause")
            times.append(resumed(server, sandbox)[0] * 1000)
        medians[memory] = statistics.median(times)
        server.destroy(sandbox)
    ratio = medians[4096] / medians[256]
    report("resume of 4 GiB / of 256 MiB", f"{ratio:.2f}", "≤ 1.2", ratio <= 1.2, f"{medians[4096]:.0f} / {medians[256]:.0f} ms")


def bench_cache(server, runs=5):
    """Restores with an empty page cache, against a full one: copies of a snapshot with a working set, and resumes."""
    without_spares = RestoreServer(MARTLET_WARM_POOL="0")
    try:
        cold_copies(without_spares, runs)
    finally:
        without_spares.stop()
    sandbox = server.create()
    server.execute(sandbox)
    cold, warm = [], []
    for _ in range(runs):
        for times, is_cold in ((warm, False), (cold, True)):
            server.change(sandbox, "pause")
            if is_cold:
                drop_from_cache(server.generation_files(sandbox))
            times.append(resumed(server, sandbox)[0] * 1000)
            time.sleep(2)
    report_cold("resume cold / warm", cold, warm, "")
    server.destroy(sandbox)


def cold_copies(server, runs):
    sandbox = server.create()
    server.execute(sandbox)
    status, answer = server.call("POST", "/v1/snapshots", {"sandbox_id": sandbox["id"], "name": "cold"})
    assert status == 201, answer
    server.destroy(sandbox)
    pattern = os.path.join(server.store, "generations", "*", "working.set")
    for path in glob.glob(pattern):
        os.unlink(path)

    def copy(is_cold):
        if is_cold:
            drop_from_cache(server.generation_files(sandbox))
        seconds, new = created(server, template="cold")
        deadline = time.monotonic() + 30
        while not glob.glob(pattern):
            assert time.monotonic() < deadline, "no working set was recorded"
            time.sleep(0.1)
        server.destroy(new)
        return seconds * 1000

    cold, warm, bare_cold = [], [], []
    for _ in range(runs):
        for path in glob.glob(pattern):
            os.unlink(path)
        bare_cold.append(copy(True))
        warm.append(copy(False))
        cold.append(copy(True))
    report_cold("copy with a recorded working set, cold / warm", cold, warm,
                f"; cold, while it is recorded: {statistics.median(bare_cold):.0f} ms")


def report_cold(name, cold, warm, detail):
    cold, warm = statistics.median(cold), statistics.median(warm)
    report(name, f"{cold / warm:.2f}", "≤ 1.3", cold / warm <= 1.3, f"{cold:.0f} / {warm:.0f} ms{detail}")


def plain_write(directory, count):
    """Returns the seconds to write `count` bytes, which come from another process, to a new file."""
    piece, path = os.urandom(MIB), os.path.join(directory, "plain")
    begin = time.monotonic()
    with open(path, "wb", buffering=0) as file:
        for _ in range(max(1, count // MIB)):
            file.write(piece)
    took = time.monotonic() - begin
    os.unlink(path)
    return took


def bench_pause(server, runs=4):
    """Time that a pause stops the guest, against a plain write of as many bytes, in a small and a large guest."""
    windows = [stop_window(server, memory, dirty, runs) for memory, dirty in ((512, 16), (512, 256), (4096, 16))]
    ratio = windows[2] / windows[0]
    report("guest stopped for a pause, 4 GiB / 512 MiB", f"{ratio:.2f}", "≤ 1.2", ratio <= 1.2, f"{windows[2]:.0f} / {windows[0]:.0f} ms")


def stop_window(server, memory, dirty, runs):
    sandbox = server.create(memory_mb=memory)
    server.shell(sandbox, "mkdir -p /tmp/m; mount -t tmpfs -o size=90% none /tmp/m")
    server.change(sandbox, "pause")
    server.change(sandbox, "resume")
    stopped, floors, sizes, phases = [], [], [], ""
    for _ in range(runs):
        server.shell(sandbox, f"head -c {dirty << 20} /dev/urandom > /tmp/m/a", 300)
        answer = server.change(sandbox, "pause")
        phases = timings(answer)
        newest = server.entry(sandbox)["generations"][0].removeprefix("gen-")
        size = os.stat(os.path.join(server.store, "generations", newest, "memory.layer")).st_blocks * 512
        sizes.append(size)
        stopped.append((answer.get("timings_ms") or {}).get("stopped", float("nan")))
        floors.append(plain_write(server.store, size) * 1000)
        server.change(sandbox, "resume")
    server.destroy(sandbox)
    window, floor = statistics.median(stopped), statistics.median(floors)
    report(f"guest of {memory} MiB stopped for a pause with {dirty} MiB changed", f"{window:.0f} ms", "≤ 20 ms + 1.5 × a plain write",
           window <= 20 + 1.5 * floor, f"plain write {floor:.0f} ms for {statistics.median(sizes) / MIB:.0f} MiB; {phases}")
    return window


def bench_fork(_):
    """16 copies of a sandbox, against one create that also restores; both without a warm pool."""
    server = RestoreServer(MARTLET_WARM_POOL="0")
    try:
        forks(server)
    finally:
        server.stop()


def forks(server, runs=3):
    parent = server.create()
    server.execute(parent)
    sixteen, creates = [], []
    for _ in range(runs):
        seconds, new = created(server)
        creates.append(seconds)
        server.destroy(new)
        begin = time.monotonic()
        copies = server.fork(parent, 16)
        sixteen.append(time.monotonic() - begin)
        assert len(copies) == 16
        for copy in copies:
            server.execute(copy)
            server.destroy(copy)
    ratio = statistics.median(sixteen) / statistics.median(creates)
    report("fork of 16 / one create", f"{ratio:.2f}", "≤ 10", ratio <= 10, f"{ms(statistics.median(sixteen))} / {ms(statistics.median(creates))}")
    server.destroy(parent)


def proportional_bytes(pid):
    with open(f"/proc/{pid}/smaps_rollup") as file:
        return int(re.search(r"^Pss:\s+(\d+)", file.read(), re.M).group(1)) * 1024


def bench_density(server, count=100):
    """Host memory of idle copies of a sandbox of `base`."""
    parent = server.create(memory_mb=256, template="base")
    server.execute(parent)
    copies, base = [], available()
    while len(copies) < count:
        copies += server.fork(parent, min(10, count - len(copies)))
    time.sleep(3)
    each = (base - available()) / len(copies)
    vmm = statistics.median(proportional_bytes(server.vmm(copy)) for copy in copies[:20])
    total = each * 100 / (1 << 30)
    report("100 idle copies of base", f"{total:.1f} GiB", "≤ 8 GiB", total <= 8,
           f"{each / MIB:.0f} MiB for each of {len(copies)}, the guest has 256 MiB; VMM's proportional share {vmm / MIB:.0f} MiB")
    threads = [threading.Thread(target=server.destroy, args=(copy,)) for copy in copies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    server.destroy(parent)


def available():
    with open("/proc/meminfo") as file:
        return int(re.search(r"^MemAvailable:\s+(\d+)", file.read(), re.M).group(1)) * 1024


def main(names):
    benches = {name[6:]: function for name, function in globals().items() if name.startswith("bench_")}
    unknown = set(names) - set(benches)
    assert not unknown, f"unknown: {unknown}; there are {', '.join(benches)}"
    server = RestoreServer()
    try:
        if not server.supports_pause():
            sys.exit("this server has no pause and resume")
        for name, function in benches.items():
            if names and name not in names:
                continue
            print(f"{name}: {function.__doc__}", flush=True)
            function(server)
    finally:
        server.stop()
    missed = [row for row in bench.rows if not row[3]]
    print(f"\n{len(bench.rows) - len(missed)} of {len(bench.rows)} promises held in this run")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
