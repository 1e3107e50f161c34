import CLinux
import Glibc
import LinuxSystem
import SystemPackage

/// Makes and removes directories on behalf of a user, in ways that a user inside the guest cannot redirect by swapping
/// a directory for a symbolic link while the agent, which is root, works on it.
enum GuestDirectories {
  static let mode: UInt32 = 0o755

  /// Opens a directory (O_PATH), creating what is missing with mode 0755, owned by the user. Existing symbolic links on
  /// the way are followed; what was just created is reopened without following any.
  static func open(_ path: String, creatingFor user: GuestUser) throws(FileFailure) -> OwnedDescriptor {
    if let directory = try? OwnedDescriptor.open(path, clinux_o_path | O_DIRECTORY) { return directory }
    do {
      return try walk(path, user: user)
    } catch {
      throw FileFailure(error, path: path)
    }
  }

  private static func walk(_ path: String, user: GuestUser) throws(SystemError) -> OwnedDescriptor {
    var directory = try OwnedDescriptor.open("/", clinux_o_path | O_DIRECTORY)
    for component in GuestPath.components(of: path) {
      directory = try enter(String(component), of: directory, user: user)
    }
    return directory
  }

  private static func enter(
    _ name: String, of parent: OwnedDescriptor, user: GuestUser
  ) throws(SystemError) -> OwnedDescriptor {
    let existing = clinux_openat(parent.rawValue, name, clinux_o_path | O_DIRECTORY | O_CLOEXEC, 0)
    if existing >= 0 { return OwnedDescriptor(existing) }
    guard errno == ENOENT else { throw SystemError.current("openat", subject: name) }
    let isOurs = mkdirat(parent.rawValue, name, mode) == 0
    guard isOurs || errno == EEXIST else { throw SystemError.current("mkdirat", subject: name) }
    let descriptor = OwnedDescriptor(
      try SystemError.check("openat", name) {
        clinux_openat(parent.rawValue, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC, 0)
      })
    // A directory that somebody else made in the meantime stays theirs.
    if isOurs { try SystemError.check("fchown", name) { fchown(descriptor.rawValue, user.uid, user.gid) } }
    return descriptor
  }

  /// Removes whatever is at `path`, a directory with all its content. Symbolic links are removed, never followed.
  /// Already gone is success.
  /// - Throws: `invalidArgument` for the root directory.
  static func removeTree(_ path: String) throws(FileFailure) {
    guard path != "/" else { throw FileFailure(.invalidArgument, "the root directory cannot be removed") }
    let parent: OwnedDescriptor
    do {
      parent = try OwnedDescriptor.open(GuestPath.parent(of: path), clinux_o_path | O_DIRECTORY)
    } catch {
      // Nothing can be below a directory that is not there, or that is a file.
      if error.errno.rawValue == ENOENT || error.errno.rawValue == ENOTDIR { return }
      throw FileFailure(error, path: path)
    }
    do {
      try removeTree(GuestPath.name(of: path), in: parent)
    } catch {
      throw FileFailure(error, path: path)
    }
  }

  /// How often a directory that keeps being filled by somebody else is emptied before the removal gives up.
  private static let maximumAttempts = 16

  /// Depth first. `stack` holds the directories that are still to be removed, as paths relative to `parent`; each is
  /// reached again from there without following links, so that the depth of the tree costs neither descriptors nor
  /// stack.
  private static func removeTree(_ name: String, in parent: OwnedDescriptor) throws(SystemError) {
    var stack = [(path: name, attempts: 0)]
    while let (path, attempts) = stack.last {
      guard try !removeEntry(path, in: parent) else {
        stack.removeLast()
        continue
      }
      guard attempts < maximumAttempts else { throw SystemError("rmdir", .directoryNotEmpty, subject: path) }
      stack[stack.count - 1].attempts += 1
      try removeChildren(of: path, in: parent, stack: &stack)
    }
  }

  /// - Returns: false for a directory that is not empty.
  private static func removeEntry(_ path: String, in parent: OwnedDescriptor) throws(SystemError) -> Bool {
    var directory = parent
    if let slash = path.utf8.lastIndex(of: UInt8(ascii: "/")) {
      let opened = clinux_open_beneath(parent.rawValue, String(path[..<slash]), clinux_o_path | O_DIRECTORY | O_CLOEXEC)
      if opened < 0, errno == ENOENT { return true }
      directory = OwnedDescriptor(try SystemError.check("openat2", path) { opened })
    }
    let name = GuestPath.name(of: path)
    if unlinkat(directory.rawValue, name, 0) == 0 || errno == ENOENT { return true }
    guard errno == EISDIR || errno == EPERM else { throw SystemError.current("unlink", subject: path) }
    if unlinkat(directory.rawValue, name, AT_REMOVEDIR) == 0 || errno == ENOENT { return true }
    guard errno == ENOTEMPTY || errno == EEXIST else { throw SystemError.current("rmdir", subject: path) }
    return false
  }

  /// Removes the files of one directory; its directories go on the stack.
  private static func removeChildren(
    of path: String, in parent: OwnedDescriptor, stack: inout [(path: String, attempts: Int)]
  ) throws(SystemError) {
    let directory = OwnedDescriptor(
      try SystemError.check("openat2", path) {
        clinux_open_beneath(parent.rawValue, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
      })
    for child in try DirectoryNames.read(directory, path: path)
    where unlinkat(directory.rawValue, child, 0) != 0 && errno != ENOENT {
      stack.append((path + "/" + child, 0))
    }
  }
}

/// The names in a directory.
enum DirectoryNames {
  /// All names but `.` and `..`, in the kernel's order. Names that are not UTF-8 are repaired and may then not be
  /// found.
  static func read(_ directory: OwnedDescriptor, path: String) throws(SystemError) -> [String] {
    let copy = try SystemError.check("dup", path) { fcntl(directory.rawValue, F_DUPFD_CLOEXEC, 3) }
    guard let stream = fdopendir(copy) else {
      close(copy)
      throw SystemError.current("fdopendir", subject: path)
    }
    defer { closedir(stream) }
    var names: [String] = []
    while let entry = readdir(stream) {
      let name = withUnsafePointer(to: &entry.pointee.d_name) {
        $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
      }
      if name != "." && name != ".." { names.append(name) }
    }
    return names
  }
}
