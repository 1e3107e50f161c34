"""A lower floor: a guest with a minimal agent (agent.c), its memory mapped from a file, without a pager."""

import os
import shutil
import subprocess
import tempfile
import time

import bare

HERE = os.path.dirname(os.path.abspath(__file__))


class MinimalGuest:
    """Boots the guest once and saves it; `restore` then measures."""

    def __init__(self, words, kernel, khz):
        self.directory = tempfile.mkdtemp(prefix="martlet-floor-", dir="/var/tmp")
        self.image = os.path.join(self.directory, "image")
        self.memory = os.path.join(self.directory, "memory")
        self.state = os.path.join(self.directory, "state")
        self.build()
        self.words = bare.without(words, "-runas", "-sandbox", "-incoming")
        append = ("console=ttyS0 quiet panic=-1 reboot=t net.ifnames=0 no_timer_check random.trust_cpu=on nokaslr "
                  f"tsc_early_khz={khz} lpj={int(khz) * 4} tsc=reliable mitigations=off root=/dev/vda rw")
        self.save([
            "-kernel", os.path.join(kernel, "vmlinux"), "-initrd", os.path.join(kernel, "initramfs"), "-append", append])

    def build(self):
        tree = os.path.join(self.directory, "tree")
        for name in ("usr/local/bin", "dev", "proc", "sys", "run", "tmp", "etc"):
            os.makedirs(os.path.join(tree, name))
        subprocess.run(
            ["cc", "-static", "-O2", "-o", os.path.join(tree, "usr/local/bin/envd"), os.path.join(HERE, "agent.c")], check=True)
        with open(self.image, "wb") as file:
            file.truncate(64 << 20)
        subprocess.run(["mkfs.ext4", "-q", "-F", "-d", tree, self.image], check=True)

    def start(self, share, extra):
        disk = os.path.join(self.directory, "disk.qcow2")
        if os.path.exists(disk):
            os.unlink(disk)
        bare.overlay(disk, os.path.getsize(self.image))
        words = bare.with_disk(self.words, ("raw", self.image), ("qcow2", disk))

        def backend(value):
            if not value.startswith("memory-backend-file"):
                return value
            parts = (part for part in value.split(",") if not part.startswith(("mem-path=", "share=")))
            return ",".join([*parts, f"mem-path={self.memory}", f"share={share}"])

        socket_path = os.path.join(self.directory, "qmp.sock")
        if os.path.exists(socket_path):
            os.unlink(socket_path)
        return subprocess.Popen(bare.with_value(words, "-object", backend) + extra, cwd=self.directory, stdin=subprocess.DEVNULL)

    def save(self, kernel):
        with bare.inside():
            vmm = self.start("on", kernel)
            try:
                monitor = bare.Monitor(self.directory, vmm)
                guest = bare.Guest()
                guest.post("/", {})
                guest.close()
                monitor.run("stop")
                monitor.transfer("migrate", self.state, os.O_WRONLY | os.O_CREAT)
                monitor.close()
            finally:
                vmm.kill()
                vmm.wait()

    def restore(self):
        """Returns the milliseconds from the spawn to the response."""
        with bare.inside():
            begin = time.monotonic()
            vmm = self.start("off", ["-incoming", "defer"])
            try:
                monitor = bare.Monitor(self.directory, vmm)
                monitor.transfer("migrate-incoming", self.state, os.O_RDONLY)
                monitor.run("cont")
                guest = bare.Guest()
                guest.post("/", {})
                took = (time.monotonic() - begin) * 1000
                guest.close()
                monitor.close()
                return took
            finally:
                vmm.kill()
                vmm.wait()

    def close(self):
        shutil.rmtree(self.directory, ignore_errors=True)
