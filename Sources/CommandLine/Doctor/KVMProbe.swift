import Glibc

/// Checks whether a guest runs on KVM. That `/dev/kvm` can be opened is not sufficient, particularly with nested
/// virtualization.
///
/// The guest is one `hlt` instruction in real mode. Source: Linux, Documentation/virt/kvm/api.rst.
enum KVMProbe {
  enum Outcome: Equatable, Sendable {
    case runs
    case noNode
    case denied
    /// The device exists but a guest does not run; the value names the failed step.
    case unusable(String)
  }

  private enum Request {
    static let getAPIVersion: UInt = 0xAE00
    static let createVM: UInt = 0xAE01
    static let getVCPUMapSize: UInt = 0xAE04
    static let createVCPU: UInt = 0xAE41
    static let setMemoryRegion: UInt = 0x4020_AE46
    static let run: UInt = 0xAE80
    static let getRegisters: UInt = 0x8090_AE81
    static let setRegisters: UInt = 0x4090_AE82
    static let getSegments: UInt = 0x8138_AE83
    static let setSegments: UInt = 0x4138_AE84
  }

  private static let pageBytes = 4096
  private static let apiVersion: Int32 = 12
  private static let exitHalt: UInt32 = 5

  static func run(node: String = "/dev/kvm") -> Outcome {
    let system = open(node, O_RDWR | O_CLOEXEC)
    guard system >= 0 else {
      switch errno {
      case ENOENT, ENXIO, ENODEV: return .noNode
      case EACCES, EPERM: return .denied
      default: return .unusable("open: \(String(cString: strerror(errno)))")
      }
    }
    defer { close(system) }
    guard ioctl(system, Request.getAPIVersion, 0) == apiVersion else {
      return .unusable("the device does not implement version 12 of the KVM API")
    }
    #if arch(x86_64)
      return runHalt(system)
    #else
      let machine = ioctl(system, Request.createVM, 0)
      guard machine >= 0 else { return failed("KVM_CREATE_VM") }
      close(machine)
      return .runs
    #endif
  }

  private static func runHalt(_ system: Int32) -> Outcome {
    let machine = ioctl(system, Request.createVM, 0)
    guard machine >= 0 else { return failed("KVM_CREATE_VM") }
    defer { close(machine) }
    guard let page = map(pageBytes, MAP_SHARED | MAP_ANONYMOUS, -1) else { return failed("mmap") }
    defer { munmap(page, pageBytes) }
    page.storeBytes(of: 0xF4, as: UInt8.self)
    // struct kvm_userspace_memory_region: slot and flags, guest address, size, host address.
    var region: [UInt64] = [0, 0, UInt64(pageBytes), UInt64(UInt(bitPattern: page))]
    guard ioctl(machine, Request.setMemoryRegion, &region) == 0 else { return failed("KVM_SET_USER_MEMORY_REGION") }
    let processor = ioctl(machine, Request.createVCPU, 0)
    guard processor >= 0 else { return failed("KVM_CREATE_VCPU") }
    defer { close(processor) }
    return execute(processor, mapBytes: Int(ioctl(system, Request.getVCPUMapSize, 0)))
  }

  private static func execute(_ processor: Int32, mapBytes: Int) -> Outcome {
    guard mapBytes >= pageBytes, let state = map(mapBytes, MAP_SHARED, processor) else {
      return failed("KVM_GET_VCPU_MMAP_SIZE")
    }
    defer { munmap(state, mapBytes) }
    // struct kvm_sregs begins with the code segment: base (8 bytes), limit (4), selector (2).
    var segments = [UInt64](repeating: 0, count: 39)
    guard ioctl(processor, Request.getSegments, &segments) == 0 else { return failed("KVM_GET_SREGS") }
    segments[0] = 0
    segments[1] &= 0xFFFF_0000_FFFF_FFFF
    guard ioctl(processor, Request.setSegments, &segments) == 0 else { return failed("KVM_SET_SREGS") }
    // struct kvm_regs: sixteen registers, the instruction pointer, the flags (bit 1 is always set).
    var registers = [UInt64](repeating: 0, count: 18)
    registers[17] = 2
    guard ioctl(processor, Request.setRegisters, &registers) == 0 else { return failed("KVM_SET_REGS") }
    guard ioctl(processor, Request.run, 0) == 0 else { return failed("KVM_RUN") }
    let reason = state.load(fromByteOffset: 8, as: UInt32.self)
    return reason == exitHalt ? .runs : .unusable("the guest exited with reason \(reason) instead of halting")
  }

  private static func map(_ bytes: Int, _ flags: Int32, _ descriptor: Int32) -> UnsafeMutableRawPointer? {
    let pointer = mmap(nil, bytes, PROT_READ | PROT_WRITE, flags, descriptor, 0)
    return pointer == MAP_FAILED ? nil : pointer
  }

  private static func failed(_ step: String) -> Outcome {
    .unusable("\(step): \(String(cString: strerror(errno)))")
  }

  static func check(_ outcome: Outcome?) -> DoctorCheck {
    let software = "QEMU with TCG: correct and isolated, several times slower"
    switch outcome {
    case .runs: return DoctorCheck("kvm", .ok, "a guest of one instruction ran on /dev/kvm")
    case .noNode:
      return DoctorCheck(
        "kvm", .degraded, "/dev/kvm does not exist",
        remedy: "enable virtualization in the firmware, or nested virtualization of the outer VM",
        usedInstead: software)
    case .denied:
      return DoctorCheck(
        "kvm", .degraded, "/dev/kvm cannot be opened", remedy: "run as root, or as a member of group kvm",
        usedInstead: software)
    case .unusable(let why):
      return DoctorCheck(
        "kvm", .degraded, "/dev/kvm exists but does not run a guest (\(why))",
        remedy: "check the kernel log (dmesg); nested virtualization may be disabled", usedInstead: software)
    case nil:
      return DoctorCheck(
        "kvm", .degraded, "/dev/kvm exists but a test guest hung",
        remedy: "check the kernel log (dmesg) and reboot the machine",
        usedInstead: software)
    }
  }
}
