import Glibc
import Hypervisor
import LinuxSystem
import SystemPackage

/// Presents a guest's memory to QEMU.
///
/// QEMU maps a file as memory and treats it as shared, so that it leaves memory out of the state that it saves and
/// loads. A library preloaded into QEMU replaces the file's mapping by anonymous memory, or by memory that a pager
/// fills. The file itself is sealed: a QEMU without the library cannot map it and ends at once, so that guests never
/// share memory.
struct GuestMemory {
  /// Descriptor numbers in the VMM. File and library are addressed by number, because ld.so(8) cannot preload a path
  /// with a colon or a space.
  private static let fileDescriptor: Int32 = 3
  private static let shimDescriptor: Int32 = 4
  static let path = "/proc/self/fd/\(fileDescriptor)"

  private let file: OwnedDescriptor
  private let shim: OwnedDescriptor
  private let configuration: VMConfiguration

  init(_ configuration: VMConfiguration, shim path: FilePath) throws(SystemError) {
    file = try OwnedDescriptor.sealedMemory(name: "guest-memory", sizeBytes: Int64(configuration.memoryMiB) << 20)
    shim = try OwnedDescriptor.open(path.string, O_RDONLY)
    self.configuration = configuration
  }

  /// Child descriptor number → number in this process.
  var descriptors: [Int32: Int32] { [Self.fileDescriptor: file.rawValue, Self.shimDescriptor: shim.rawValue] }

  /// Variables that the library reads. Source: Sources/QEMUPagerShim.
  var environment: [String: String] {
    var variables = ["LD_PRELOAD": "/proc/self/fd/\(Self.shimDescriptor)", "MARTLET_MEMORY_FILE": Self.path]
    switch configuration.start {
    case .boot:
      variables["MARTLET_MEMORY_MODE"] = "anonymous"
    case .restore(let socket):
      variables["MARTLET_MEMORY_MODE"] = "userfault"
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
