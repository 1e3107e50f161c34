import CLinux
import Glibc
import SystemPackage

/// One change of a mount namespace that is being put together. Paths are those of the namespace.
package enum MountStep: Sendable {
  /// One that exists is fine.
  case directory(String, mode: UInt32 = 0o755)
  /// An empty file to mount on; one that exists is fine.
  case file(String)
  case symbolicLink(String, to: String)
  /// A file system in memory, of which a few names and nothing else are needed.
  case memory(String)
  /// The same, in which devices work.
  case deviceDirectory(String)
  /// A device of the host that every user may open: a node of its own, or the host's node where none may be made.
  case device(String, at: String)
  /// The processes of the pid namespace, each visible to itself only.
  case processes(String)
  /// A file or directory of the host, for a namespace that `MountNamespace.make` fills.
  case bind(String, at: String, MountFlags)
  /// A file or directory of the host, for the copy of a namespace that a child gets.
  case attach(DetachedMount, at: String, MountFlags)
  /// Changes the flags of a mount.
  case protect(String, MountFlags)
}

/// Flags of a mount. Source: mount(2).
package struct MountFlags: OptionSet, Sendable {
  package let rawValue: UInt

  package init(rawValue: UInt) {
    self.rawValue = rawValue
  }

  package static let readOnly = MountFlags(rawValue: UInt(MS_RDONLY))
  package static let noSetUserID = MountFlags(rawValue: UInt(MS_NOSUID))
  package static let noDevices = MountFlags(rawValue: UInt(MS_NODEV))
  package static let noExecution = MountFlags(rawValue: UInt(MS_NOEXEC))

  /// Files to be read: neither programs nor devices.
  package static let data: MountFlags = [.readOnly, .noSetUserID, .noDevices, .noExecution]
  /// Programs and libraries.
  package static let programs: MountFlags = [.readOnly, .noSetUserID, .noDevices]
}

/// A file or directory of the host, open to be mounted in another namespace; the host's own mounts do not change.
/// Source: open_tree(2).
package final class DetachedMount: Sendable {
  package let path: String
  let descriptor: OwnedDescriptor

  /// - Throws: `SystemError`, with ENOENT when there is no such file.
  package init(_ path: String) throws(SystemError) {
    let result = clinux_detach_mount(path)
    guard result >= 0 else { throw SystemError("open_tree", Errno(rawValue: -result), subject: path) }
    self.path = path
    descriptor = OwnedDescriptor(result)
  }
}

/// A mount namespace with a root of its own, which no process need be in. It lives as long as the descriptor and the
/// processes in it, and shows nothing of the host but what was bound into it. Source: mount_namespaces(7).
package final class MountNamespace: Sendable {
  package let descriptor: OwnedDescriptor

  private init(_ descriptor: OwnedDescriptor) {
    self.descriptor = descriptor
  }

  /// Makes one; the caller's own does not change. Blocks for as long as the kernel takes for the mounts.
  /// - Parameter steps: with paths that begin with `/`; the root is writable meanwhile.
  package static func make(_ steps: [MountStep]) throws(SystemError) -> MountNamespace {
    // Relative to the directory in which the root is put together.
    let raw = RawMountSteps(steps, prefix: ".")
    var failed: Int32 = -1
    let result = raw.withUnsafeBuffer { clinux_make_mount_namespace($0.baseAddress, $0.count, &failed) }
    guard result >= 0 else {
      let subject = steps.indices.contains(Int(failed)) ? steps[Int(failed)].path : "a mount namespace"
      throw SystemError("mount", Errno(rawValue: -result), subject: subject)
    }
    return MountNamespace(OwnedDescriptor(result))
  }
}

extension MountStep {
  package var path: String {
    switch self {
    case .directory(let path, _), .file(let path), .symbolicLink(let path, _), .memory(let path),
      .deviceDirectory(let path), .device(_, let path), .processes(let path), .bind(_, let path, _),
      .attach(_, let path, _), .protect(let path, _):
      path
    }
  }
}

/// Steps as the kernel's side takes them, alive as long as the value.
final class RawMountSteps {
  private static let memoryOptions = "mode=755,size=64k,nr_inodes=512"

  private let steps: [clinux_mount_step]
  private let strings: [UnsafeMutablePointer<CChar>?]
  /// Keeps descriptors open.
  private let originals: [MountStep]

  /// - Parameter prefix: put before the paths.
  init(_ steps: [MountStep], prefix: String = "") {
    var strings: [UnsafeMutablePointer<CChar>?] = []
    func text(_ text: String) -> UnsafePointer<CChar>? {
      let copy = strdup(text)
      strings.append(copy)
      return UnsafePointer(copy)
    }
    self.steps = steps.map { step in
      var raw = clinux_mount_step()
      raw.path = text(prefix + step.path)
      raw.descriptor = -1
      switch step {
      case .directory(_, let mode):
        raw.kind = Int32(CLINUX_MOUNT_DIRECTORY)
        raw.mode = mode
      case .file:
        raw.kind = Int32(CLINUX_MOUNT_FILE)
        raw.mode = 0o444
      case .symbolicLink(_, let target):
        raw.kind = Int32(CLINUX_MOUNT_LINK)
        raw.source = text(target)
      case .memory:
        raw.kind = Int32(CLINUX_MOUNT_TMPFS)
        raw.source = text(Self.memoryOptions)
        raw.flags = MountFlags([.noSetUserID, .noDevices, .noExecution]).rawValue
      case .deviceDirectory:
        raw.kind = Int32(CLINUX_MOUNT_TMPFS)
        raw.source = text(Self.memoryOptions)
        raw.flags = MountFlags([.noSetUserID, .noExecution]).rawValue
      case .device(let source, _):
        raw.kind = Int32(CLINUX_MOUNT_DEVICE)
        raw.source = text(source)
        raw.flags = MountFlags([.noSetUserID, .noExecution]).rawValue
      case .processes:
        raw.kind = Int32(CLINUX_MOUNT_PROC)
        raw.flags = MountFlags.data.rawValue
      case .bind(let source, _, let flags):
        raw.kind = Int32(CLINUX_MOUNT_BIND)
        raw.source = text(source)
        raw.flags = flags.rawValue
      case .attach(let mount, _, let flags):
        raw.kind = Int32(CLINUX_MOUNT_ATTACH)
        raw.descriptor = mount.descriptor.rawValue
        raw.flags = flags.rawValue
      case .protect(_, let flags):
        raw.kind = Int32(CLINUX_MOUNT_PROTECT)
        raw.flags = flags.rawValue
      }
      return raw
    }
    self.strings = strings
    originals = steps
  }

  deinit {
    for string in strings { free(string) }
  }

  func withUnsafeBuffer<Result>(_ body: (UnsafeBufferPointer<clinux_mount_step>) -> Result) -> Result {
    withExtendedLifetime(self) { steps.withUnsafeBufferPointer(body) }
  }
}
