"""Restores with minimal means: QEMU, its pager, its monitor and one connection to the guest, nothing else.

The machine is taken from the command line of a VMM of the server, so that both restore the same.
"""

import array
import contextlib
import ctypes
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time
import uuid

NAMESPACE = "martlet-floor"
GUEST = ("169.254.0.21", 49983)
GATEWAY_MAC = "02:fc:00:00:00:01"
MEMORY_DESCRIPTOR, SHIM_DESCRIPTOR = 60, 61
F_ADD_SEALS, ALL_BUT_SEAL = 1033, 2 | 4 | 8
LIMIT_SECONDS = 60
libc = ctypes.CDLL(None, use_errno=True)
home = os.open("/proc/self/ns/net", os.O_RDONLY)


@contextlib.contextmanager
def namespace():
    """A network namespace like those of sandboxes, without rules."""
    subprocess.run(["ip", "netns", "del", NAMESPACE], stderr=subprocess.DEVNULL)
    subprocess.run(["ip", "netns", "add", NAMESPACE], check=True)
    try:
        for words in (
            "tuntap add tap0 mode tap vnet_hdr", f"link set tap0 address {GATEWAY_MAC}", "addr add 169.254.0.22/30 dev tap0",
            "link set tap0 up", "link set lo up",
        ):
            subprocess.run(["ip", "-n", NAMESPACE, *words.split()], check=True)
        yield
    finally:
        subprocess.run(["ip", "netns", "del", NAMESPACE])


@contextlib.contextmanager
def inside():
    descriptor = os.open(f"/run/netns/{NAMESPACE}", os.O_RDONLY)
    assert libc.setns(descriptor, 0) == 0
    os.close(descriptor)
    try:
        yield
    finally:
        assert libc.setns(home, 0) == 0


class Monitor:
    """A minimal client of QEMU's monitor."""

    def __init__(self, directory, process):
        deadline = time.monotonic() + LIMIT_SECONDS
        self.socket = socket.socket(socket.AF_UNIX)
        while True:
            try:
                self.socket.connect(os.path.join(directory, "qmp.sock"))
                break
            except OSError:
                assert process.poll() is None and time.monotonic() < deadline, "QEMU did not start"
                time.sleep(0.0005)
        self.lines = self.socket.makefile("r")
        self.lines.readline()
        self.run("qmp_capabilities")

    def run(self, command, descriptor=None, **arguments):
        line = json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n"
        passed = [] if descriptor is None else [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [descriptor]))]
        self.socket.sendmsg([line], passed)
        while True:
            answer = json.loads(self.lines.readline())
            if "event" not in answer:
                assert "error" not in answer, answer
                return answer["return"]

    def transfer(self, command, path, flags):
        """`migrate` or `migrate-incoming` of the state without memory."""
        names = ("x-ignore-shared", "late-block-activate")
        self.run("migrate-set-capabilities", capabilities=[{"capability": name, "state": True} for name in names])
        descriptor = os.open(path, flags, 0o600)
        self.run("getfd", descriptor, fdname="state")
        os.close(descriptor)
        self.run(command, uri="fd:state")
        while (status := self.run("query-migrate").get("status")) != "completed":
            assert status != "failed", "QEMU could not transfer the state"
            time.sleep(0.0005)

    def close(self):
        self.socket.close()


class Guest:
    """One connection to a guest agent, connected as soon as it responds."""

    def __init__(self):
        deadline = time.monotonic() + LIMIT_SECONDS
        while True:
            try:
                self.socket = socket.create_connection(GUEST, timeout=0.1)
                self.socket.settimeout(LIMIT_SECONDS)
                return
            except OSError:
                assert time.monotonic() < deadline, "the guest did not respond"
                time.sleep(0.002)

    def post(self, path, headers, body=b"", until=b"\r\n\r\n"):
        head = f"POST {path} HTTP/1.1\r\nHost: guest\r\nContent-Length: {len(body)}\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self.socket.sendall(head.encode() + b"\r\n" + body)
        answer = b""
        while until not in answer:
            piece = self.socket.recv(65536)
            assert piece, f"the guest hung up: {answer!r}"
            answer += piece
        assert answer.startswith(b"HTTP/1.1 2"), answer
        return answer

    def execute(self, token):
        message = json.dumps({"process": {"cmd": "/bin/true"}, "stdin": False}).encode()
        self.post("/process.Process/Start", {
            "X-Access-Token": token, "Content-Type": "application/connect+json", "Connect-Protocol-Version": "1",
            "Authorization": "Basic cm9vdDo="}, struct.pack(">BI", 0, len(message)) + message, until=b'"end"')

    def close(self):
        self.socket.close()


def without(words, *options):
    """A command line without some options and their values."""
    result, words = [], iter(words)
    for word in words:
        if word in options:
            next(words)
        else:
            result.append(word)
    return result


def with_value(words, option, change):
    """A command line with the value of an option changed."""
    return [change(word) if index and words[index - 1] == option else word for index, word in enumerate(words)]


def command_line(pid):
    with open(f"/proc/{pid}/cmdline", "rb") as file:
        return [word.decode() for word in file.read().split(b"\0")[:-1]]


def overlay(path, size):
    """An empty overlay in the form that the server's have."""
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-o", "cluster_size=128k,extended_l2=on", path, str(size)], check=True)
    return path


def with_disk(words, *files):
    """A command line whose disk is these (format, path), the lowest first, opened by name."""
    words = without(words, "-add-fd", "-blockdev")
    drive = next(word.split("drive=")[1].split(",")[0] for word in words if "drive=" in word)
    nodes, below = [], None
    for index, (kind, path) in enumerate(files):
        top = index == len(files) - 1
        node = {
            "driver": kind, "node-name": drive if top else f"below{index}", "read-only": not top,
            "file": {"driver": "file", "filename": path, "read-only": not top}}
        if kind == "qcow2":
            node["backing"] = below
        if top:
            unsafe = {"discard": "unmap", "cache": {"direct": False, "no-flush": True}}
            node.update(unsafe, **{"detect-zeroes": "unmap"})
            node["file"].update(unsafe)
        nodes += ["-blockdev", json.dumps(node)]
        below = node["node-name"]
    return words[:1] + nodes + words[1:]


def disk_files(store, bare):
    """Image and disk layers of a generation, the lowest first, and the size of the disk."""
    with open(os.path.join(store, "generations", bare, "manifest.json"), "rb") as file:
        manifest = json.loads(file.read().rsplit(b"sha256 ", 1)[0])
    chain = [bare] + [parent.removeprefix("gen-") for parent in manifest["diskParents"]]
    layers = [("qcow2", os.path.join(store, "generations", name, "disk.layer")) for name in reversed(chain)]
    return [(manifest["disk"]["baseFormat"], manifest["disk"]["basePath"])] + layers, manifest["disk"]["sizeBytes"]


def restore(words, martlet, store, generation, token):
    """Restores a generation with shim and pager up to the result of a first exec. Returns milliseconds by step."""
    directory = tempfile.mkdtemp(prefix="martlet-floor-", dir="/var/tmp")
    os.chmod(directory, 0o711)
    bare = generation.removeprefix("gen-")
    place = os.path.join(store, "generations", bare)
    memory = int(next(word for index, word in enumerate(words) if words[index - 1] == "-m").removesuffix("M")) << 20
    begin = time.monotonic()
    steps = {}

    def step(name):
        steps[name] = (time.monotonic() - begin) * 1000

    below, size = disk_files(store, bare)
    disk = overlay(os.path.join(directory, "disk.qcow2"), size)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(os.path.join(directory, "pager.sock"))
    listener.listen(1)
    log = open(os.path.join(directory, "log"), "ab")
    # The pager enters the mount namespace of descriptor 5; here it is the one that it is in.
    pager = subprocess.Popen(
        ["sh", "-c", 'exec "$@" 5</proc/self/ns/mnt', "sh", martlet, "pager", "serve", f"vm-{uuid.uuid4()}", "--store", store, "--generation", generation, "--run", directory, "--owner", "0"],
        preexec_fn=lambda: os.dup2(listener.fileno(), 3, inheritable=True), pass_fds=(3,), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        cwd=directory)
    file = os.memfd_create("guest-memory", os.MFD_ALLOW_SEALING)
    os.ftruncate(file, memory)
    import fcntl
    fcntl.fcntl(file, F_ADD_SEALS, ALL_BUT_SEAL)
    shim = os.open(os.path.join(os.path.dirname(martlet), "libmartlet-qemu-pager.so"), os.O_RDONLY)
    os.dup2(file, MEMORY_DESCRIPTOR, inheritable=True)
    os.dup2(shim, SHIM_DESCRIPTOR, inheritable=True)
    words = without(words, "-runas", "-sandbox")
    words = with_disk(words, *below, ("qcow2", disk))
    words = with_value(
        words, "-object", lambda value: value.replace("mem-path=/proc/self/fd/3", f"mem-path=/proc/self/fd/{MEMORY_DESCRIPTOR}"))
    # What the host agent passes as descriptors is opened by name here.
    words = with_value(words, "-netdev", lambda value: "tap,id=net,ifname=tap0,script=no,downscript=no")
    words = with_value(words, "-chardev", lambda value: value.replace("fd=7", "path=qmp.sock"))
    regions = os.open(os.path.join(directory, "memory-regions.json"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    userfault = os.open("/dev/userfaultfd", os.O_RDWR)
    environment = {
        "MARTLET_MEMORY_REGIONS": str(regions), "MARTLET_USERFAULT_DEVICE": str(userfault),
        "PATH": os.environ["PATH"], "LD_PRELOAD": f"/proc/self/fd/{SHIM_DESCRIPTOR}", "MARTLET_MEMORY_MODE": "userfault",
        "MARTLET_MEMORY_FILE": f"/proc/self/fd/{MEMORY_DESCRIPTOR}", "MARTLET_PAGER_SOCKET": "pager.sock"}
    vmm = monitor = guest = None
    try:
        with inside():
            vmm = subprocess.Popen(
                words, env=environment, cwd=directory, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                pass_fds=(MEMORY_DESCRIPTOR, SHIM_DESCRIPTOR, regions, userfault))
            monitor = Monitor(directory, vmm)
            step("monitor")
            monitor.transfer("migrate-incoming", os.path.join(place, "device.state"), os.O_RDONLY)
            step("state")
            monitor.run("cont")
            guest = Guest()
            step("connected")
            # The user processes of the snapshot are stopped and must be continued; a new one would be stopped too.
            guest.post("/unfreeze", {"X-Access-Token": token})
            guest.execute(token)
            step("exec")
        return steps
    except BaseException:
        with open(os.path.join(directory, "log")) as text:
            sys.stderr.write(text.read())
        raise
    finally:
        for part in (guest, monitor):
            if part:
                part.close()
        for process in (vmm, pager):
            if process:
                process.kill()
                process.wait()
        for descriptor in (file, shim, MEMORY_DESCRIPTOR, SHIM_DESCRIPTOR, regions, userfault):
            os.close(descriptor)
        listener.close()
        shutil.rmtree(directory, ignore_errors=True)
