"""Martlet's benchmarks: every result is a ratio to a floor or a peer measured in the same run.

usage: bench.py [NAME...]     names: create exec transfer agent reads reads_postgresql database start_up full_reads
"""

import base64
import contextlib
import functools
import http.client
import json
import os
import re
import secrets
import shutil
import signal
import socket
import sqlite3
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
import uuid

REPOSITORY = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
MARTLET = os.path.join(REPOSITORY, "bin", "martlet")
EMPTY_SERVER = os.path.join(REPOSITORY, "bin", "empty-server")
DATABASE_BENCH = os.path.join(REPOSITORY, ".build", "release", "martlet-database-bench")
IMAGES = os.environ.get("MARTLET_IMAGE_DIR", "/var/lib/martlet/images")
NAMESPACE = "martlet-bench"
# Runs its arguments, prints their peak resident memory in KiB (ru_maxrss) and ends with their exit status.
WAIT_FOR_PEAK = """
import os, sys
_, status, usage = os.wait4(os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ), 0)
print(usage.ru_maxrss)
sys.exit(os.waitstatus_to_exitcode(status))
"""
GIB = 1 << 30
rows = []


def report(name, figure, bound, holds, detail):
    rows.append((name, figure, bound, holds, detail))
    print(f"  {'✓' if holds else '✗'} {name}: {figure}  (promise {bound})  {detail}", flush=True)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def ms(seconds):
    return f"{seconds * 1000:.1f} ms"


class Postgres:
    """A private PostgreSQL server, durable as in production."""

    def __init__(self):
        self.process = subprocess.Popen(
            [os.path.join(REPOSITORY, "scripts", "private-postgres"), "fsync = on", "shared_buffers = 256MB"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.url = self.process.stdout.readline().strip()
        assert self.url.startswith("postgres://"), "the private PostgreSQL did not start"

    def make_database(self, name):
        """The URL of a new database."""
        host = self.url.split("host=")[1]
        subprocess.run(["psql", "-q", "-h", host, "-U", "martlet", "postgres", "-c", f"CREATE DATABASE {name}"], check=True)
        return self.url.replace("/postgres?", f"/{name}?")

    def stop(self):
        self.process.stdin.close()
        self.process.wait(60)


class Server:
    def __init__(self, database_url="", **environment):
        self.directory = tempfile.mkdtemp(prefix="martlet-bench-", dir="/var/tmp")
        os.chmod(self.directory, 0o711)
        self.data = os.path.join(self.directory, "data")
        self.database = database_url or os.path.join(self.data, "martlet.db")
        self.port = free_port()
        self.settings = os.environ | {
            "DATABASE_URL": database_url, "MARTLET_RATE_LIMIT": "0", "MARTLET_JWT_SECRET": secrets.token_hex(32)} | environment
        self.environment = os.environ | {"MARTLET_DATA_DIR": self.data, "MARTLET_URL": f"http://127.0.0.1:{self.port}"}
        self.start()

    def start(self):
        """Returns the seconds until the first status 200 of GET /health, which is requested every 5 ms."""
        begin = time.monotonic()
        with open(os.path.join(self.directory, "server.log"), "ab") as log:
            self.process = subprocess.Popen(
                [MARTLET, "up", "--listen", f"127.0.0.1:{self.port}", "--data-dir", self.data, "--image-dir", IMAGES, "--no-demo"],
                stdout=log, stderr=log, env=self.settings)
        while True:
            with contextlib.suppress(OSError):
                if self.call("GET", "/health", authenticated=False)[0] == 200:
                    break
            assert self.process.poll() is None and time.monotonic() < begin + 60, "the server did not start"
            time.sleep(0.005)
        seconds = time.monotonic() - begin
        with open(os.path.join(self.data, "credentials.json")) as file:
            self.key = json.load(file)["api_key"]
        return seconds

    def halt(self):
        """Ends the process; `start` continues with the same data."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)

    def stop(self):
        subprocess.run([MARTLET, "kill", "--all"], env=self.environment, stdout=subprocess.DEVNULL)
        self.halt()
        shutil.rmtree(self.directory, ignore_errors=True)

    def call(self, method, path, body=None, authenticated=True, connection=None):
        own = connection or http.client.HTTPConnection("127.0.0.1", self.port, timeout=300)
        headers = {"X-API-Key": self.key} if authenticated else {}
        if body is not None:
            headers["Content-Type"] = "application/json"
        own.request(method, path, json.dumps(body) if body is not None else None, headers)
        response = own.getresponse()
        content = response.read()
        if connection is None:
            own.close()
        return response.status, json.loads(content) if content.startswith((b"{", b"[")) else content

    def create(self, **fields):
        status, sandbox = self.call("POST", "/v1/sandboxes", fields)
        assert status == 201, sandbox
        return sandbox

    def destroy(self, sandbox):
        self.call("DELETE", f"/v1/sandboxes/{sandbox['id']}")

    def copy_row(self, sandbox, count):
        """Inserts rows of stopped sandboxes directly into the database."""
        own = sandbox["id"].removeprefix("sb-")
        names = ("team_id, template, vcpus, memory_mb, disk_size_mb, timeout_sec, metadata, envs, network, is_secured, host_id, guest_ip, "
                 "host_ip, isolation_vmm, isolation_accelerator, started_at, created_at, last_active_at, last_updated")
        statements = [f"INSERT INTO sandboxes (id, status, {names}) SELECT '{uuid.uuid4()}', 'stopped', {names} FROM sandboxes "
                      f"WHERE id = '{own}'" for _ in range(count)]
        if self.database.startswith("postgres://"):
            subprocess.run(["psql", "-q", self.database, "-c", "; ".join(statements)], check=True)
        else:
            with contextlib.closing(sqlite3.connect(self.database)) as database, database:
                for statement in statements:
                    database.execute(statement)

    def shell(self, sandbox, command, timeout=120):
        status, answer = self.call(
            "POST", f"/v1/sandboxes/{sandbox['id']}/exec", {"cmd": "sh", "args": ["-c", command], "user": "root", "timeout_sec": timeout})
        assert status == 200 and answer["exit_code"] == 0, answer
        return answer["stdout"]

    def token(self, sandbox):
        with sqlite3.connect(f"file:{self.data}/journal.db?mode=ro", uri=True) as journal:
            (entry,) = journal.execute("SELECT entry FROM sandbox WHERE id = ?", (sandbox["id"].removeprefix("sb-"),)).fetchone()
        return json.loads(entry)["accessToken"]


def resident(pid, field="VmRSS"):
    with open(f"/proc/{pid}/status") as file:
        return int(re.search(rf"{field}:\s+(\d+)", file.read()).group(1)) * 1024


class PeakMemory:
    """Samples the growth of a process's memory while a block runs."""

    def __init__(self, *pids):
        self.pids = pids

    def __enter__(self):
        self.start = {pid: resident(pid) for pid in self.pids}
        self.peak = dict(self.start)
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self.sample)
        self.thread.start()
        return self

    def sample(self):
        while not self.stopping.wait(0.02):
            for pid in self.pids:
                with contextlib.suppress(OSError, AttributeError):
                    self.peak[pid] = max(self.peak[pid], resident(pid))

    def __exit__(self, *_):
        self.stopping.set()
        self.thread.join()

    @property
    def growth(self):
        return max(self.peak[pid] - self.start[pid] for pid in self.pids)


@contextlib.contextmanager
def bare_namespace():
    subprocess.run(["ip", "netns", "del", NAMESPACE], stderr=subprocess.DEVNULL)
    subprocess.run(["ip", "netns", "add", NAMESPACE], check=True)
    try:
        for words in ("tuntap add tap0 mode tap vnet_hdr", "addr add 169.254.0.22/30 dev tap0", "link set tap0 up", "link set lo up"):
            group, *rest = words.split()
            subprocess.run(["ip", "-n", NAMESPACE, group, *rest], check=True)
        yield
    finally:
        subprocess.run(["ip", "netns", "del", NAMESPACE])


def template_image(name):
    with open(os.path.join(IMAGES, "templates", "00000000-0000-0000-0000-000000000000", f"{name}.json")) as file:
        return os.path.join(IMAGES, "blobs", f"sha256-{json.load(file)['digest']}.ext4")


def tsc_kilohertz(server, sandbox):
    return re.search(r"tsc_early_khz=(\d+)", server.shell(sandbox, "cat /proc/cmdline")).group(1)


def bench_create(server, runs=5):
    """Cold create (boots, because it is the first of its template and shape) to the first exec result,
    against a bare QEMU boot to the agent's first response."""
    sandbox = server.create()
    khz = tsc_kilohertz(server, sandbox)
    server.destroy(sandbox)
    kernel = os.path.realpath(os.path.join(IMAGES, "kernel"))
    ours, floors = [], []
    with bare_namespace():
        for _ in range(runs):
            fresh = Server()
            try:
                begin = time.monotonic()
                sandbox = fresh.create()
                fresh.shell(sandbox, "true")
                ours.append(time.monotonic() - begin)
            finally:
                fresh.stop()
            floor = subprocess.run(
                ["ip", "netns", "exec", NAMESPACE, sys.executable, os.path.join(REPOSITORY, "benchmarks", "floor.py"),
                 os.path.join(kernel, "vmlinux"), os.path.join(kernel, "initramfs"), template_image("minimal"), khz, "512"],
                check=True, capture_output=True, text=True)
            floors.append(float(floor.stdout) / 1000)
    ratio = statistics.median(ours) / statistics.median(floors)
    report("cold create to first exec result / bare QEMU boot", f"{ratio:.2f}", "≤ 1.25", ratio <= 1.25,
           f"{ms(statistics.median(ours))} / {ms(statistics.median(floors))}")


def start_direct(connection, token):
    """One exec directly to the guest agent: a Connect stream in JSON."""
    message = json.dumps({"process": {"cmd": "/bin/true"}, "stdin": False}).encode()
    connection.request("POST", "/process.Process/Start", struct.pack(">BI", 0, len(message)) + message, {
        "Content-Type": "application/connect+json", "X-Access-Token": token, "Connect-Protocol-Version": "1",
        "Authorization": "Basic " + base64.b64encode(b"root:").decode()})
    body = connection.getresponse().read()
    assert b'"end"' in body, body


def timed(function, *arguments):
    begin = time.monotonic()
    function(*arguments)
    return time.monotonic() - begin


def bench_exec(server, runs=200):
    """Exec over REST, directly to the guest agent, and over ssh into the same guest."""
    sandbox = server.create(template="base")
    token = server.token(sandbox)
    rest = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    direct = http.client.HTTPConnection(sandbox["host_ip"], 49983, timeout=60)
    path, body = f"/v1/sandboxes/{sandbox['id']}/exec", {"cmd": "/bin/true", "user": "root"}
    over_rest, straight = [], []
    for index in range(runs + 20):
        a = timed(server.call, "POST", path, body, True, rest)
        b = timed(start_direct, direct, token)
        if index >= 20:
            over_rest.append(a)
            straight.append(b)
    # The two alternate, so that the median of the differences does not depend on other load of the machine.
    difference = statistics.median(a - b for a, b in zip(over_rest, straight))
    report("exec over REST, more than straight to the agent", ms(difference), "≤ 3 ms", difference <= 0.003,
           f"{ms(statistics.median(over_rest))} against {ms(statistics.median(straight))}")
    shells = ssh_times(server, sandbox)
    if shells:
        report("exec over REST / ssh on an open connection", f"{statistics.median(over_rest) / statistics.median(shells):.2f}", "side by side",
               True, f"{ms(statistics.median(over_rest))} / {ms(statistics.median(shells))}")
    server.destroy(sandbox)


def ssh_times(server, sandbox, runs=30):
    key = os.path.join(server.directory, "key")
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    with open(key + ".pub") as file:
        public = file.read().strip()
    server.shell(sandbox, f"mkdir -p /root/.ssh /run/sshd; echo '{public}' > /root/.ssh/authorized_keys; chmod 700 /root/.ssh; "
                          "ssh-keygen -A >/dev/null; /usr/sbin/sshd")
    ssh = ["ssh", "-q", "-i", key, "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "ControlMaster=auto",
           "-o", f"ControlPath={server.directory}/ssh", "-o", "ControlPersist=60", f"root@{sandbox['host_ip']}"]
    # The daemon goes to the background before it listens.
    for _ in range(10):
        works = subprocess.run([*ssh, "true"], timeout=60).returncode == 0
        if works:
            break
        time.sleep(0.5)
    if not works:
        print("  (ssh into the guest did not work; no figure)")
        return []
    times = [timed(subprocess.run, [*ssh, "true"]) for _ in range(runs)]
    subprocess.run([*ssh[:-1], "-O", "exit", ssh[-1]], stderr=subprocess.DEVNULL)
    return times


def bench_transfer(server):
    """Upload and download of 1 GiB, against a bare nc copy to and from a file in the same guest."""
    sandbox = server.create(template="base", memory_mb=1024)
    source = os.path.join(server.directory, "source")
    with open(source, "wb") as file:
        for _ in range(GIB >> 20):
            file.write(os.urandom(1 << 20))
    address, target = sandbox["host_ip"], "/root/copy"

    def nc_in():
        # Ends when the guest has received the last byte.
        server.shell(sandbox, "rm -f /root/nc; (nc -l -p 9000 > /root/nc; touch /root/nc.done) >/dev/null 2>&1 & rm -f /root/nc.done; sleep 0.3")
        with open(source, "rb") as file:
            subprocess.run(["nc", "-N", address, "9000"], stdin=file, check=True)
        server.shell(sandbox, "while [ ! -e /root/nc.done ]; do sleep 0.02; done")

    def nc_out():
        server.shell(sandbox, "(nc -N -l -p 9001 < /root/nc) >/dev/null 2>&1 & sleep 0.3")
        with open(os.path.join(server.directory, "nc.out"), "wb") as file:
            subprocess.run(["nc", "-d", address, "9001"], stdout=file, check=True)

    peaks = {"upload": [], "download": []}

    def upload():
        peaks["upload"].append(copy(server, source, f"{sandbox['id']}:{target}"))

    def download():
        peaks["download"].append(copy(server, f"{sandbox['id']}:{target}", os.path.join(server.directory, "back")))

    agent_before = agent_memory(server, sandbox)
    with PeakMemory(server.process.pid) as memory:
        for name, ours, floor in (("upload", upload, nc_in), ("download", download, nc_out)):
            pairs = [(timed(floor), timed(ours)) for _ in range(2)]
            rates = [a / b for a, b in pairs]
            ratio = statistics.median(rates)
            seconds = statistics.median(b for _, b in pairs)
            report(f"{name} of 1 GiB / nc", f"{ratio:.2f}", "≥ 0.6", ratio >= 0.6,
                   f"{1024 / seconds:.0f} MiB/s; nc {1024 / statistics.median(a for a, _ in pairs):.0f} MiB/s")
    agent_after = agent_memory(server, sandbox, "VmHWM")
    same = subprocess.run(["cmp", "-s", source, os.path.join(server.directory, "back")]).returncode == 0
    report("what came back is what went in", "same" if same else "DIFFERENT", "same", same, "")
    growth = max(memory.growth, agent_after - agent_before) / (1 << 20)
    report("growth of a process during the transfers", f"{growth:.0f} MiB", "≤ 64 MiB", growth <= 64,
           f"server {memory.growth >> 20}, agent {(agent_after - agent_before) >> 20}")
    small = copy_peaks_of_one_byte(server, sandbox)
    growths = {name: (max(peaks[name]) - small[name]) / (1 << 20) for name in peaks}
    growth = max(growths.values())
    report("peak memory of martlet cp of 1 GiB, more than of 1 byte", f"{growth:.0f} MiB", "< 64 MiB", growth < 64,
           ", ".join(f"{name} {growths[name]:.0f} over {small[name] >> 20}" for name in growths))
    server.destroy(sandbox)


def copy(server, source, destination):
    """Runs `martlet cp` and returns its peak resident memory.

    A small program starts it and waits for it: the peak that wait4 reports is never less than the parent's memory when
    it started the child (the old image counts, see execve and getrusage), and this program may use more than the client.
    """
    output = subprocess.run([sys.executable, "-I", "-S", "-c", WAIT_FOR_PEAK, MARTLET, "cp", source, destination], env=server.environment,
                            check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout
    return int(output.split()[-1]) * 1024


def copy_peaks_of_one_byte(server, sandbox):
    byte, there = os.path.join(server.directory, "byte"), f"{sandbox['id']}:/root/byte"
    with open(byte, "wb") as file:
        file.write(b"1")
    return {"upload": copy(server, byte, there), "download": copy(server, there, byte)}


def agent_memory(server, sandbox, field="VmRSS"):
    return int(re.search(rf"{field}:\s+(\d+)", server.shell(sandbox, "cat /proc/1/status")).group(1)) * 1024


def bench_agent(server):
    """The agent's memory in an idle guest."""
    sandbox = server.create()
    server.shell(sandbox, "true")
    time.sleep(3)
    memory = agent_memory(server, sandbox) / (1 << 20)
    report("resident memory of the idle agent", f"{memory:.1f} MiB", "< 25 MiB", memory < 25, "")
    server.destroy(sandbox)


def load(url, *headers, script=None):
    """Returns requests per second under load, and the 99th percentile of the latency divided by the median."""
    options = [word for header in headers for word in ("-H", header)] + (["-s", script] if script else [])
    output = subprocess.check_output(["wrk", "-t1", "-c16", "-d4s", "--latency", *options, url], text=True)
    assert "Non-2xx" not in output and "Socket errors" not in output, output
    median, slow = (microseconds(re.search(rf"{share}%\s+([\d.]+\w+)", output).group(1)) for share in (50, 99))
    return float(re.search(r"Requests/sec:\s+([\d.]+)", output).group(1)), slow / median


def microseconds(text):
    number, unit = re.fullmatch(r"([\d.]+)([a-z]+)", text).groups()
    return float(number) * {"us": 1, "ms": 1_000, "s": 1_000_000}[unit]


@contextlib.contextmanager
def empty_server():
    """A Hummingbird server with one empty route and no middleware; yields its URL."""
    port = free_port()
    process = subprocess.Popen([EMPTY_SERVER, str(port)])
    try:
        deadline = time.monotonic() + 30
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            assert process.poll() is None and time.monotonic() < deadline, "the empty server did not start"
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}/"
    finally:
        process.terminate()
        process.wait(30)


def bench_reads(server):
    """GET of a sandbox against the empty route of a minimal server, under the same load."""
    reads(server, 0.5, "")


def bench_reads_postgresql(_):
    """GET of a sandbox with a PostgreSQL on the same machine, against the empty route."""
    postgres = Postgres()
    try:
        server = Server(postgres.url)
        try:
            reads(server, 0.25, " on PostgreSQL")
        finally:
            server.stop()
    finally:
        postgres.stop()


def reads(server, promise, where, runs=5):
    sandbox = server.create()
    key = f"X-API-Key: {server.key}"
    address = f"http://127.0.0.1:{server.port}"
    url = f"{address}/v1/sandboxes/{sandbox['id']}"
    with empty_server() as empty:
        load(url, key)
        load(empty)
        reads_of_one = [(load(url, key), load(empty)) for _ in range(runs)]
        server.copy_row(sandbox, 100)
        path = "/v1/sandboxes?status=stopped&limit=100"
        size = len(json.dumps(server.call("GET", path)[1], separators=(",", ":")))
        lists = [(load(f"{address}{path}", key), load(f"{empty}bytes/{size}")) for _ in range(runs)]
        while_busy = {}
        if server.database.startswith("postgres://"):
            with commits(server.database, 200):
                while_busy = {name: [load(target, key)[0] for _ in range(3)]
                              for name, target in (("GET /v1/sandboxes/{id}", url), ("list of 100", f"{address}{path}"))}
    for name, pairs in ((f"GET /v1/sandboxes/{{id}} / empty route{where}", reads_of_one),
                        (f"list of 100 / empty route that sends as many bytes{where}", lists)):
        ratio = statistics.median(ours[0] / floor[0] for ours, floor in pairs)
        report(name, f"{ratio:.2f}", f"≥ {promise}", ratio >= promise,
               f"{statistics.median(ours[0] for ours, _ in pairs):.0f} / {statistics.median(floor[0] for _, floor in pairs):.0f} requests per second")
        tail, bare = (statistics.median(pair[side][1] for pair in pairs) for side in (0, 1))
        report("  slowest hundredth / median under load", f"{tail:.1f}", "≤ 5", tail <= 5, f"of the empty route {bare:.1f}")
    for (name, ours), quiet in zip(while_busy.items(), (reads_of_one, lists)):
        ratio = statistics.median(ours) / statistics.median(own[0] for own, _ in quiet)
        report(f"{name} while another program commits 200 times a second / without", f"{ratio:.2f}", "side by side", True,
               f"{statistics.median(ours):.0f} requests per second")
    whole = 1 / statistics.median(ours[0] for ours, _ in reads_of_one)
    added = authentication_seconds(server, sandbox)
    share = added / (whole - added)
    report(f"authentication, share of a GET{where}", f"{100 * share:.0f} %", "≤ 15 %", share <= 0.15,
           f"{added * 1e6:.1f} of {whole * 1e6:.1f} µs")
    server.destroy(sandbox)


@contextlib.contextmanager
def commits(url, rate):
    """Runs a program that commits `rate` times per second."""
    subprocess.run(["psql", "-q", url, "-c", "CREATE TABLE bench_commits AS SELECT 0 AS n"], check=True)
    with tempfile.NamedTemporaryFile("w", suffix=".sql") as script:
        script.write("UPDATE bench_commits SET n = n + 1;\n")
        script.flush()
        process = subprocess.Popen(["pgbench", "-n", "-R", str(rate), "-T", "600", "-f", script.name, url],
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            time.sleep(1)
            assert process.poll() is None, "pgbench did not run"
            yield
        finally:
            process.terminate()
            process.wait(30)


def authentication_seconds(server, sandbox):
    """Measures what authentication adds to a read, on one thread, with the server's own database."""
    output = subprocess.run([DATABASE_BENCH, "--authenticate", server.database, server.key, sandbox["id"]], check=True,
                            capture_output=True, text=True)
    return float(output.stdout.split()[0]) / 1e6


def bench_database(_):
    """A database with 100,000 sandboxes and 1,000,000 audit rows, against an empty one."""
    report_databases("SQLite", filled_sqlite()[1])
    postgres = Postgres()
    try:
        report_databases("PostgreSQL", compare_databases(postgres.make_database("bench_empty"), postgres.make_database("bench_full")))
    finally:
        postgres.stop()


@functools.cache
def filled_sqlite():
    """Returns a directory with an empty.db and a full.db, and the results for both. Filling takes long, so it is
    done once; the directory is removed when the program ends."""
    directory = tempfile.TemporaryDirectory(prefix="martlet-bench-", dir="/var/tmp")
    return directory, compare_databases(os.path.join(directory.name, "empty.db"), os.path.join(directory.name, "full.db"))


def compare_databases(empty, full):
    """Fills one database, and measures both."""
    return subprocess.run([DATABASE_BENCH, empty, full], check=True, capture_output=True, text=True).stdout


def report_databases(name, output):
    for line in output.splitlines():
        operation, ratio, on_full, on_empty = line.split()
        report(f"{operation} on a full {name} / on an empty one", ratio, "≤ 1.5", float(ratio) <= 1.5,
               f"{float(on_full):.0f} µs / {float(on_empty):.0f} µs")


def bench_start_up(_, runs=5):
    """Start of the server until /health responds, with existing data: 100,000 sandboxes and 1,000,000 audit rows in SQLite."""
    directory, _ = filled_sqlite()
    server = Server()
    try:
        server.halt()
        replace_database(server, os.path.join(directory.name, "full.db"))
        # The first start creates the administrator, which the filling tool does not do.
        server.start()
        times = []
        for _ in range(runs):
            server.halt()
            times.append(server.start())
    finally:
        server.stop()
    median = statistics.median(times)
    report("start-up to /health with 100,000 sandboxes and 1,000,000 audit rows", ms(median), "< 1 s", median < 1,
           f"{ms(min(times))} to {ms(max(times))}")


def bench_full_reads(_, runs=5):
    """GET of any of 100,000 sandboxes over REST, against a server with a few; the same for lists."""
    directory, _ = filled_sqlite()
    servers = []
    try:
        for name in ("full", "empty"):
            server = Server()
            servers.append(server)
            server.halt()
            replace_database(server, os.path.join(directory.name, f"{name}.db"))
            server.start()
            server.halt()
            server.paths = adopt_sandboxes(server)
            server.start()
        compared = {"GET /v1/sandboxes/{id}": [], "list of 100": []}
        for _ in range(runs):
            for what, script in (("GET /v1/sandboxes/{id}", True), ("list of 100", False)):
                compared[what].append([
                    load(f"http://127.0.0.1:{server.port}/v1/sandboxes?status=stopped&limit=100", f"X-API-Key: {server.key}",
                         script=server.paths if script else None)[0] for server in servers])
    finally:
        for server in servers:
            server.stop()
    for what, pairs in compared.items():
        ratio = statistics.median(empty / full for full, empty in pairs)
        report(f"{what} with 100,000 sandboxes / with a few", f"{ratio:.2f}", "≤ 1.5", ratio <= 1.5,
               f"{statistics.median(full for full, _ in pairs):.0f} against {statistics.median(empty for _, empty in pairs):.0f} requests per second")


def adopt_sandboxes(server):
    """Gives all sandboxes to the team of the server's key.
    Returns: a wrk script that requests one after the other in random order."""
    with contextlib.closing(sqlite3.connect(server.database)) as database, database:
        database.execute("UPDATE sandboxes SET team_id = (SELECT team_id FROM api_keys LIMIT 1)")
        ids = [row[0] for row in database.execute("SELECT id FROM sandboxes ORDER BY random()")]
    names, script = (os.path.join(server.directory, name) for name in ("ids", "ids.lua"))
    with open(names, "w") as file:
        file.writelines(f"{id}\n" for id in ids)
    with open(script, "w") as file:
        file.write(f"""
            local ids, next = {{}}, 0
            for id in io.lines("{names}") do ids[#ids + 1] = id end
            request = function()
              next = next % #ids + 1
              return wrk.format("GET", "/v1/sandboxes/sb-" .. ids[next])
            end
            """)
    return script


def replace_database(server, source):
    """Replaces the database of a stopped server by a copy of another."""
    with contextlib.closing(sqlite3.connect(source)) as filled, contextlib.closing(sqlite3.connect(server.database)) as database:
        filled.backup(database)
        with database:
            # The server repairs running sandboxes without a host at its start; in a used database that is done already.
            database.execute("UPDATE sandboxes SET status = 'stopped' WHERE host_id IS NULL AND status = 'running'")
    # Otherwise writing hundreds of MiB would be measured too.
    os.sync()


def main(names):
    benches = {name[6:]: function for name, function in globals().items() if name.startswith("bench_")}
    unknown = set(names) - set(benches)
    assert not unknown, f"unknown: {unknown}; there are {', '.join(benches)}"
    server = Server()
    try:
        for name, function in benches.items():
            if names and name not in names:
                continue
            print(f"{name}: {function.__doc__}", flush=True)
            function(server)
    finally:
        server.stop()
    missed = [row for row in rows if not row[3]]
    print(f"\n{len(rows) - len(missed)} of {len(rows)} promises held in this run")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
