import Glibc
import Hypervisor
import LinuxSystem
import SystemPackage

/// The memory of a guest, as QEMU is told about it.
///
/// QEMU maps a file as memory and takes it for shared, so that it leaves memory out of the state it saves and loads. A
/// library that is preloaded into it puts anonymous memory in the file's place, or memory that a pager fills. The file
/// itself is sealed: a QEMU without the library cannot map it and ends at once, rather than let guests share their
/// memory.
struct GuestMemory {
  /// Numbers in the VMM. Both are named by them, as a path with a colon or a space in it could not be preloaded
  /// (ld.so(8)).
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

  /// Child descriptor number → ours.
  var descriptors: [Int32: Int32] { [Self.fileDescriptor: file.rawValue, Self.shimDescriptor: shim.rawValue] }

  /// What the library is told. Source: Sources/QEMUPagerShim.
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

  /// A socket's path may have 107 bytes at most (unix(7)); the run directory is the VMM's working directory.
  private func relativeToRunDirectory(_ socket: FilePath) -> String {
    guard socket.removingLastComponent() == configuration.runDirectory, let name = socket.lastComponent else {
      return socket.string
    }
    return name.string
  }
}
