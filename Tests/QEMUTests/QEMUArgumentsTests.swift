import Hypervisor
import LinuxSystem
import Model
import SystemPackage
import Testing

@testable import QEMU

@Suite struct QEMUArgumentsTests {
  private func arguments(
    accelerator: Accelerator = .tcg, start: VMStart = .boot, id: InstanceID = InstanceID()
  ) -> QEMUArguments {
    QEMUArguments(
      configuration: VMConfiguration(
        id: id, start: start, vcpus: 3, memoryMiB: 640, kernel: "/k/vmlinux", initramfs: "/k/initramfs",
        kernelArguments: ["root=/dev/vda"],
        disk: DiskAttachment(
          disk: .init(
            name: "disk-0", format: .qcow2, readable: OwnedDescriptor(-1), writable: OwnedDescriptor(-1)), layers: []),
        runDirectory: "/r", networkNamespace: "/run/netns/n",
        tapName: "tap0",
        macAddress: "06:00:ac:10:00:02", userID: 2_000_017),
      firmware: "/f/qboot.rom", accelerator: accelerator, tscKilohertz: 2_596_134)
  }

  private func value(after option: String, in list: [String]) -> String? {
    list.firstIndex(of: option).map { list[$0 + 1] }
  }

  @Test("a guest under TCG receives the counter's frequency; without it boots hang at random")
  func frequency() {
    #expect(arguments().kernelCommandLine.contains("tsc_early_khz=2596134"))
    #expect(arguments().kernelCommandLine.contains("lpj=10384536"))
    #expect(!arguments(accelerator: .kvm).kernelCommandLine.contains("tsc_early_khz"))
  }

  @Test("the firmware is qboot, never microvm's default, which corrupts the initrd")
  func firmware() {
    #expect(value(after: "-bios", in: arguments().list) == "/f/qboot.rom")
  }

  @Test("the VMM filters its system calls, changes of its user included, and opens no link by name")
  func privileges() {
    let list = arguments().list
    #expect(
      value(after: "-sandbox", in: list) == "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny")
    #expect(!list.contains("-runas"))
    #expect(value(after: "-netdev", in: list) == "tap,id=net,fd=8")
  }

  @Test("vCPUs and memory are as requested")
  func shape() {
    #expect(value(after: "-smp", in: arguments().list) == "3")
    #expect(value(after: "-m", in: arguments().list) == "640M")
  }

  @Test("the disk's files are on the command line as descriptors, without their paths")
  func disk() {
    let list = arguments().list
    #expect(value(after: "-device", in: list) == "virtio-blk-device,drive=disk-0")
    #expect(!list.contains { $0.contains("qcow2") && $0.contains("/") && !$0.contains("/dev/fdset/") })
  }

  @Test(
    "equal pages of two guests are never merged, after a boot or a restore",
    arguments: [VMStart.boot, .restore(pagerSocket: "/r/pager.sock")])
  func merging(start: VMStart) {
    let list = arguments(start: start).list
    #expect(value(after: "-M", in: list)?.split(separator: ",").contains("mem-merge=off") == true)
    #expect(value(after: "-object", in: list)?.split(separator: ",").contains("merge=off") == true)
  }

  @Test("memory is a shared file, so that a saved state does not contain its pages")
  func memory() {
    #expect(
      value(after: "-object", in: arguments().list)
        == "memory-backend-file,id=ram,size=640M,mem-path=/proc/self/fd/3,share=on,merge=off")
  }

  @Test("a restored machine equals the booted one, except for the kernel, which is in memory")
  func restore() {
    let id = InstanceID()
    let (boot, restore) = (
      arguments(id: id).list, arguments(start: .restore(pagerSocket: "/r/pager.sock"), id: id).list
    )
    #expect(restore.suffix(2) == ["-incoming", "defer"])
    let kernel = boot.indices.filter { ["-kernel", "-initrd", "-append"].contains(boot[$0]) }
    let rest = boot.indices.filter { !kernel.contains($0) && !kernel.contains($0 - 1) }.map { boot[$0] }
    #expect(restore.dropLast(2).elementsEqual(rest))
    #expect(kernel.count == 3)
  }

  @Test("devices are in the order that snapshots depend on")
  func order() {
    let list = arguments().list
    let devices = list.indices.filter { list[$0] == "-device" }.map { list[$0 + 1].split(separator: ",")[0] }
    #expect(devices == ["virtio-blk-device", "virtio-net-device", "virtio-rng-device"])
  }
}

@Suite struct QEMUVersionTests {
  @Test(
    "the version is parsed from QEMU's output",
    arguments: [
      ("QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)\nCopyright", "7.2.22"),
      ("QEMU emulator version 10.0.2", "10.0.2"),
      ("something else", "unknown"),
    ])
  func version(text: String, expected: String) {
    #expect(QEMUInstallation.parseVersion(text) == expected)
  }
}
