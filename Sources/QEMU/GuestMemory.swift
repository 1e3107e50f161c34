import Glibc
import Hypervisor
import LinuxSystem
import Model
import SystemPackage

/// Presents a guest's memory to QEMU.
///
/// QEMU maps a file as memory and takes it for shared, so that it leaves memory out of the state it saves and loads. A
/// library that is preloaded into it puts anonymous memory in the file's place, or memory that a pager fills. The file
/// itself is sealed: a QEMU without the library cannot map it and ends at once, rather than let guests share their
/// memory.
///
/// QEMU has no privilege from its start on: what the library needs it gets as descriptors.
struct GuestMemory {
  /// Descriptor numbers in the VMM. File and library are addressed by number, because ld.so(8) cannot preload a path
  /// with a colon or a space.
  private static let fileDescriptor: Int32 = 3
  private static let shimDescriptor: Int32 = 4
  private static let regionsDescriptor: Int32 = 5
  private static let userfaultDescriptor: Int32 = 6
  static let path = "/proc/self/fd/\(fileDescriptor)"

  private let file: OwnedDescriptor
  private let shim: OwnedDescriptor
  private let regions: OwnedDescriptor
  /// Nil for a guest that boots.
  private let userfault: OwnedDescriptor?
  private let configuration: VMConfiguration

  /// - Throws: `host_unavailable` on kernels without /dev/userfaultfd, for a guest that is restored; `SystemError`.
  init(_ configuration: VMConfiguration, shim path: FilePath) throws {
    file = try OwnedDescriptor.sealedMemory(name: "guest-memory", sizeBytes: Int64(configuration.memoryMiB) << 20)
    shim = try OwnedDescriptor.open(path.string, O_RDONLY)
    // What an earlier VMM of this directory wrote tells nothing about this one.
    regions = try OwnedDescriptor.open(
      configuration.runDirectory.appending(GuestMemoryRegion.fileName).string,
      O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, mode: 0o600)
    userfault = try configuration.start == .boot ? nil : Self.openDevice()
    self.configuration = configuration
  }

  private static func openDevice() throws -> OwnedDescriptor {
    do throws(SystemError) {
      return try OwnedDescriptor.open("/dev/userfaultfd", O_RDWR)
    } catch {
      guard error.errno == .noSuchFileOrDirectory else { throw error }
      throw MartletError(
        .hostUnavailable, "this host has no /dev/userfaultfd, which restoring needs; use Linux 6.1 or newer",
        cause: error)
    }
  }

  /// Child descriptor number → ours.
  var descriptors: [Int32: Int32] {
    var numbers = [
      Self.fileDescriptor: file.rawValue, Self.shimDescriptor: shim.rawValue, Self.regionsDescriptor: regions.rawValue,
    ]
    if let userfault { numbers[Self.userfaultDescriptor] = userfault.rawValue }
    return numbers
  }

  /// Variables that the library reads. Source: Sources/QEMUPagerShim.
  var environment: [String: String] {
    var variables = [
      "LD_PRELOAD": "/proc/self/fd/\(Self.shimDescriptor)", "MARTLET_MEMORY_FILE": Self.path,
      "MARTLET_MEMORY_REGIONS": "\(Self.regionsDescriptor)",
    ]
    switch configuration.start {
    case .boot:
      variables["MARTLET_MEMORY_MODE"] = "anonymous"
    case .restore(let socket):
      variables["MARTLET_MEMORY_MODE"] = "userfault"
      variables["MARTLET_USERFAULT_DEVICE"] = "\(Self.userfaultDescriptor)"
      variables["MARTLET_PAGER_SOCKET"] = relativeToRunDirectory(socket)
    }
    return variables
  }

  /// A socket's path is limited to 107 bytes (unix(7)); the run directory is the VMM's working directory.
  private func relativeToRunDirectory(_ socket: FilePath) -> String {
    guard socket.removingLastComponent() == configuration.runDirectory, let name = socket.lastComponent else {
      return socket.string
    }
    return name.string
  }
}
