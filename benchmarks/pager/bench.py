"""Throughput of `martlet pager` as a ratio to a minimal handler in C: same generation, same traces, alternating.

usage: bench.py [MARTLET]     needs root, cc, and a release build (bin/martlet); prints one JSON document

A machine without a VM (Tests/PagerMachine, with the library that is preloaded into QEMU) fills its memory; `martlet pager
save` makes two generations of it, the second restored from the first with scattered changes. Then the handlers
alternately serve the second generation to a new machine, which plays a trace. Rate: pages touched per second, medians of
the rounds; ratio: median of the ratios of each pair.
"""

import hashlib
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import uuid

REPOSITORY = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
MARTLET = os.path.abspath(sys.argv[1]) if len(sys.argv) > 1 else os.path.join(REPOSITORY, "bin", "martlet")
MEMORY_BYTES = 512 << 20
PAGES = MEMORY_BYTES // 4096
ROUNDS = int(os.environ.get("ROUNDS", "9"))
TARGET = 0.9
# Pagers enter the mount namespace of descriptor 5 once they have opened their files; here it is the one that they are in.
IN_NAMESPACE = ["sh", "-c", 'exec "$@" 5</proc/self/ns/mnt', "sh"]
# name, pages touched, seed (0: sequential)
TRACES = [("in order", PAGES, 0), ("scattered", PAGES // 4, 7), ("first moments", 1_000, 11)]


def compile(output, sources, *options):
    subprocess.run(["cc", "-O2", "-D_GNU_SOURCE", "-pthread", *options, "-o", output, *sources], cwd=REPOSITORY, check=True)


class Machine:
    """A pager-machine under the preloaded library; controlled by lines on its standard streams."""

    def __init__(self, work, run, mode):
        placeholder = os.path.join(work, "placeholder")
        regions = os.open(os.path.join(run, "memory-regions.json"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        userfault = os.open("/dev/userfaultfd", os.O_RDWR)
        environment = {
            "LD_PRELOAD": os.path.join(work, "shim.so"), "MARTLET_MEMORY_FILE": placeholder, "MARTLET_MEMORY_MODE": mode,
            "MARTLET_PAGER_SOCKET": "pager.sock", "MARTLET_MEMORY_REGIONS": str(regions),
            "MARTLET_USERFAULT_DEVICE": str(userfault),
        }
        self.process = subprocess.Popen(
            [os.path.join(work, "machine"), placeholder, str(MEMORY_BYTES)], cwd=run, env=environment, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=(regions, userfault))
        os.close(regions)
        os.close(userfault)
        assert self.process.stdout.readline() == "ready\n", "the machine did not start"

    def ask(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline().strip()
        assert answer, f"the machine ended at: {line}"
        return answer

    def kill(self):
        self.process.kill()
        self.process.wait()


class Store:
    def __init__(self, directory):
        self.directory = directory
        self.generations = os.path.join(directory, "generations")
        os.makedirs(self.generations)

    def save(self, machine, run, parent=None):
        """Saves a machine's memory with martlet, and adds the other files of a generation."""
        name = str(uuid.uuid4())
        directory = os.path.join(self.generations, name)
        os.mkdir(directory)
        arguments = ["save", "--store", self.directory, "--draft", f"gen-{name}", "--directory", directory, "--run", run, "--vmm",
                     str(machine.process.pid), "--memory", str(MEMORY_BYTES)] + (["--parent", f"gen-{parent}"] if parent else [])
        # Standard input starts the save: the machine is stopped.
        answer = subprocess.run(IN_NAMESPACE + [MARTLET, "pager", *arguments], input="1", capture_output=True, text=True, timeout=120)
        assert answer.stdout.startswith("saved "), answer
        for file in ("device.state", "disk.layer"):
            with open(os.path.join(directory, file), "w") as f:
                f.write("nothing")
        self.describe(directory, name, parent)
        return name

    def describe(self, directory, name, parent):
        def content(file):
            with open(os.path.join(directory, file), "rb") as f:
                return f.read()

        digested = ("memory.header", "device.state", "disk.layer")
        manifest = {
            "format": 1, "id": f"gen-{name}", "memoryParents": [f"gen-{parent}"] if parent else [], "diskParents": [], "createdAt": 1_700_000_000_000, "vcpus": 1, "memoryBytes": MEMORY_BYTES,
            "machine": {"vmm": "none", "vmmVersion": "0", "machine": "bench", "firmwareDigest": "", "cpuModel": "none",
                        "accelerator": "tcg", "pageSizeBytes": 4096},
            "disk": {"sizeBytes": 1 << 20, "format": "raw", "basePath": "/nothing", "baseFormat": "raw", "baseDigest": "sha256-00"},
            "template": "minimal", "digests": {file: hashlib.sha256(content(file)).hexdigest() for file in digested},
            "sizes": {file: os.stat(os.path.join(directory, file)).st_size for file in (*digested, "memory.layer")},
        }
        if parent:
            manifest["parent"] = f"gen-{parent}"
        body = (json.dumps(manifest) + "\n").encode()
        with open(os.path.join(directory, "manifest.json"), "wb") as f:
            f.write(body + b"sha256 " + hashlib.sha256(body).hexdigest().encode() + b"\n")


class Handler:
    """A process that serves one machine; its socket listens before it runs, as with the host agent."""

    def __init__(self, run, command):
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(os.path.join(run, "pager.sock"))
        listener.listen(4)
        self.log = open(os.path.join(run, "handler.log"), "w")
        descriptor = listener.fileno()

        def place():
            if descriptor != 3:
                os.dup2(descriptor, 3)
            os.set_inheritable(3, True)

        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, close_fds=False, preexec_fn=place)
        listener.close()

    def wait(self):
        code = self.process.wait(timeout=30)
        assert code == 0, f"the handler ended with {code}: {open(self.log.name).read()}"
        self.log.close()


class Bench:
    def __init__(self, work):
        self.work = work
        self.store = Store(os.path.join(work, "store"))
        subprocess.run([os.path.join(REPOSITORY, "scripts", "build-shim"), os.path.join(work, "shim.so")], check=True)
        compile(os.path.join(work, "machine"), ["Tests/PagerMachine/main.c"])
        compile(os.path.join(work, "handler"), ["benchmarks/pager/handler.c", "Sources/CLinux/Checksum.c"], "-ISources/CLinux/include")
        with open(os.path.join(work, "placeholder"), "w") as f:
            f.truncate(MEMORY_BYTES)

    def run_directory(self):
        return tempfile.mkdtemp(dir=self.work, prefix="run-")

    def pager(self, generation, run):
        return IN_NAMESPACE + [MARTLET, "pager", "serve", f"vm-{uuid.uuid4()}", "--store", self.store.directory, "--generation", f"gen-{generation}",
                "--run", run, "--owner", "0"]

    def handler(self, generation, *options):
        return [os.path.join(self.work, "handler"), self.store.generations, generation, *options]

    def make_generations(self):
        run = self.run_directory()
        machine = Machine(self.work, run, "anonymous")
        machine.ask(f"write 0 {PAGES // 2} 1")
        machine.ask(f"write {PAGES * 5 // 8} {PAGES * 3 // 8} 2")
        first = self.store.save(machine, run)
        machine.kill()
        run = self.run_directory()
        handler = Handler(run, self.pager(first, run))
        machine = Machine(self.work, run, "userfault")
        for start in range(100, PAGES - 20, 997):
            machine.ask(f"write {start} {1 + start % 13} 3")
        second = self.store.save(machine, run, parent=first)
        self.expected = machine.ask(f"sum 0 {PAGES}")
        machine.kill()
        handler.wait()
        return second

    def play(self, command, run, pages, seed):
        handler = Handler(run, command)
        begin = time.monotonic()
        machine = Machine(self.work, run, "userfault")
        started = time.monotonic() - begin
        nanoseconds = int(machine.ask(f"play 0 {pages} {seed}"))
        machine.kill()
        handler.wait()
        shutil.rmtree(run)
        return pages / nanoseconds * 1e9, started * 1000

    def check(self, generation):
        """Checks that both serve the same bytes."""
        for which in ("c", "martlet"):
            run = self.run_directory()
            handler = Handler(run, self.handler(generation) if which == "c" else self.pager(generation, run))
            machine = Machine(self.work, run, "userfault")
            assert machine.ask(f"sum 0 {PAGES}") == self.expected, f"{which} serves wrong pages"
            machine.kill()
            handler.wait()

    def measure(self, generation, name, pages, seed):
        rates = {"c": [], "c_unchecked": [], "martlet": []}
        starts = {"c": [], "c_unchecked": [], "martlet": []}
        for _ in range(ROUNDS):
            for which in rates:
                run = self.run_directory()
                options = ["unchecked"] if which == "c_unchecked" else []
                command = self.pager(generation, run) if which == "martlet" else self.handler(generation, *options)
                rate, started = self.play(command, run, pages, seed)
                rates[which].append(rate)
                starts[which].append(started)
        pairs = [a / b for a, b in zip(rates["martlet"], rates["c"])]
        return {
            "trace": name, "pages": pages, "rounds": ROUNDS,
            "pages_per_second": {which: round(statistics.median(values)) for which, values in rates.items()},
            "spawn_to_memory_ms": {which: round(statistics.median(values), 1) for which, values in starts.items()},
            "ratio": round(statistics.median(pairs), 3), "target": TARGET, "holds": statistics.median(pairs) >= TARGET,
        }

    def run(self):
        generation = self.make_generations()
        self.check(generation)
        return [self.measure(generation, *trace) for trace in TRACES]


with tempfile.TemporaryDirectory(prefix="martlet-pager-bench-") as work:
    results = Bench(work).run()
print(json.dumps({"benchmark": "pager", "memory_bytes": MEMORY_BYTES, "results": results}, indent=2))
sys.exit(0 if all(result["holds"] for result in results) else 1)
