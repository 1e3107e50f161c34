import Hypervisor
import Model
import SystemPackage

package enum Accelerator: String, Sendable, Codable {
  case kvm
  case tcg
}

/// The command line of one microVM. A pure function, so that tests can check it.
///
/// The order of the `-device` options is part of the machine: virtio-mmio slots are assigned in order, and a snapshot
/// can be loaded only with the same order. Source of the flags and their pitfalls: QEMU 7.2 documentation,
/// system/i386/microvm.rst, and measurements.
struct QEMUArguments {
  /// Identifies machine type, firmware set-up and the order of devices. It must change with every change of what a
  /// guest sees.
  static let machineLayout = "microvm-1"
  static let monitorSocket = "qmp.sock"
  /// Descriptors that the VMM is started with, beside those of `GuestMemory` and `DiskArguments`.
  static let monitorDescriptor: Int32 = 7
  static let tapDescriptor: Int32 = 8
  /// The guest's disk in VMMs that an earlier version started.
  static let formerDiskID = "root"
  static let consoleRingBytes = 65_536
  /// TCG keeps translated code in a buffer of one gigabyte by default; this limits the memory that a guest can use
  /// there.
  static let translationBufferMiB = 128

  let configuration: VMConfiguration
  let firmware: FilePath
  let accelerator: Accelerator
  let tscKilohertz: Int

  var list: [String] {
    switch configuration.start {
    case .boot: machine + security + kernel + console + devices
    // A restored guest has its kernel in memory, whatever kernel the host boots now, and is never reset.
    case .restore: machine + security + console + devices + ["-incoming", "defer"]
    }
  }

  private var machine: [String] {
    [
      // By this name a later host agent finds a VMM that its predecessor did not journal before it died.
      "-name", "guest=\(configuration.id.wire),debug-threads=on",
      "-nodefaults", "-no-user-config", "-display", "none",
      // The kernel must not merge equal pages: the time of a write would reveal that two tenants have equal pages.
      "-M", "microvm,memory-backend=ram,mem-merge=off",
      "-accel", accelerator == .kvm ? "kvm" : "tcg,thread=multi,tb-size=\(Self.translationBufferMiB)",
      "-cpu", accelerator == .kvm ? "host" : "max",
      "-smp", "\(configuration.vcpus)",
      "-m", "\(configuration.memoryMiB)M",
      "-object",
      "memory-backend-file,id=ram,size=\(configuration.memoryMiB)M,mem-path=\(GuestMemory.path),share=on,merge=off",
      "-bios", firmware.string,
      "-global", "virtio-mmio.force-legacy=false",
      // A guest that reboots or powers off leaves a paused VMM, so that the host agent can still read the console.
      "-action", "reboot=shutdown,shutdown=pause,panic=pause",
      "-chardev", "socket,id=monitor,fd=\(Self.monitorDescriptor),server=on,wait=off",
      "-mon", "chardev=monitor,mode=control",
    ]
  }

  /// QEMU's own filter of system calls. Its user, and that it has no capability, are set before it begins.
  private var security: [String] {
    ["-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"]
  }

  private var kernel: [String] {
    ["-kernel", VMMRoot.kernel, "-initrd", VMMRoot.initramfs, "-append", kernelCommandLine]
  }

  var kernelCommandLine: String {
    var words = [
      "console=ttyS0", "quiet", "panic=-1", "reboot=t", "net.ifnames=0", "no_timer_check", "random.trust_cpu=on",
      "nokaslr",
    ]
    if accelerator == .tcg {
      // The guest has no clock for calibration, so it is told the frequency; without it, boots hang at random.
      words += ["tsc_early_khz=\(tscKilohertz)", "lpj=\(tscKilohertz * 4)", "tsc=reliable", "mitigations=off"]
    }
    return (words + configuration.kernelArguments).joined(separator: " ")
  }

  private var console: [String] {
    ["-chardev", "ringbuf,id=console,size=\(Self.consoleRingBytes)", "-serial", "chardev:console"]
  }

  private var devices: [String] {
    DiskArguments(configuration.disk).list + [
      "-device", "virtio-blk-device,drive=\(configuration.disk.disk.name)",
      "-netdev", "tap,id=net,fd=\(Self.tapDescriptor)",
      "-device", "virtio-net-device,netdev=net,mac=\(configuration.macAddress)",
      "-object", "rng-random,id=entropy,filename=/dev/urandom",
      "-device", "virtio-rng-device,rng=entropy",
    ]
  }
}
