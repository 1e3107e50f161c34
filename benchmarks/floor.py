"""The floor of a cold create: a bare QEMU that boots the same kernel and image until the agent's first response.

usage: floor.py KERNEL INITRAMFS IMAGE TSC_KHZ MEMORY_MIB

Must run in a network namespace with tap0 at 169.254.0.22/30. Prints the milliseconds from the spawn to the response.
"""

import os
import socket
import subprocess
import sys
import tempfile
import time

GUEST = ("169.254.0.21", 49983)
LIMIT_SECONDS = 120


def responds():
    try:
        with socket.create_connection(GUEST, timeout=0.02) as connection:
            connection.settimeout(5)
            connection.sendall(b"GET /health HTTP/1.1\r\nHost: guest\r\nConnection: close\r\n\r\n")
            return connection.recv(64).startswith(b"HTTP/1.1 2")
    except OSError:
        return False


def main(kernel, initramfs, image, khz, memory):
    with tempfile.TemporaryDirectory() as directory:
        overlay = os.path.join(directory, "overlay.qcow2")
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", image, overlay, "5G"], check=True)
        words = (
            "console=ttyS0 quiet panic=-1 reboot=t net.ifnames=0 no_timer_check random.trust_cpu=on nokaslr "
            f"tsc_early_khz={khz} lpj={int(khz) * 4} tsc=reliable mitigations=off root=/dev/vda rw "
            "martlet.ip=169.254.0.21/30 martlet.gw=169.254.0.22 martlet.dns=169.254.0.22")
        begin = time.monotonic()
        vmm = subprocess.Popen([
            "qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none", "-M", "microvm", "-accel", "tcg,thread=multi",
            "-cpu", "max", "-smp", "1", "-m", f"{memory}M", "-bios", "/usr/share/qemu/qboot.rom",
            "-global", "virtio-mmio.force-legacy=false", "-kernel", kernel, "-initrd", initramfs, "-append", words,
            "-serial", "null", "-drive", f"if=none,id=root,file={overlay},format=qcow2,cache=unsafe",
            "-device", "virtio-blk-device,drive=root", "-netdev", "tap,id=net,ifname=tap0,script=no,downscript=no",
            "-device", "virtio-net-device,netdev=net,mac=06:00:ac:10:00:02",
            "-object", "rng-random,id=entropy,filename=/dev/urandom", "-device", "virtio-rng-device,rng=entropy",
        ])
        try:
            while not responds():
                if vmm.poll() is not None or time.monotonic() - begin > LIMIT_SECONDS:
                    sys.exit("the guest did not respond")
                time.sleep(0.003)
            print((time.monotonic() - begin) * 1000)
        finally:
            vmm.kill()
            vmm.wait()


main(*sys.argv[1:])
