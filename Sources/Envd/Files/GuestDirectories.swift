import CLinux
import Glibc
import LinuxSystem
import SystemPackage

/// Creates and removes directories for a user. Users inside the guest cannot redirect these operations by replacing a
/// directory with a symbolic link while the agent, which runs as root, works on it.
enum GuestDirectories {
  static let mode: UInt32 = 0o755

  /// Opens a directory (O_PATH) and creates missing ones with mode 0755, owned by the user. Existing symbolic links in
  /// the path are followed; new directories are opened without following links.
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
    for component in LexicalPath.components(of: path) {
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
    let isCreated = mkdirat(parent.rawValue, name, mode) == 0
    guard isCreated || errno == EEXIST else { throw SystemError.current("mkdirat", subject: name) }
    let descriptor = OwnedDescriptor(
      try SystemError.check("openat", name) {
        clinux_openat(parent.rawValue, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC, 0)
      })
    // A directory that another process has created in the meantime keeps its owner.
    if isCreated { try SystemError.check("fchown", name) { fchown(descriptor.rawValue, user.uid, user.gid) } }
    return descriptor
  }

  /// Removes the entry at `path`, and all content if it is a directory. Symbolic links are removed, not followed. A
  /// path that does not exist is a success.
  /// - Throws: `invalidArgument` for the root directory.
  static func removeTree(_ path: String) throws(FileFailure) {
    guard path != "/" else { throw FileFailure(.invalidArgument, "the root directory cannot be removed") }
    let parent: OwnedDescriptor
    do {
      parent = try OwnedDescriptor.open(LexicalPath.parent(of: path), clinux_o_path | O_DIRECTORY)
    } catch {
      // If the parent is missing or a file, there is nothing to remove.
      if error.errno.rawValue == ENOENT || error.errno.rawValue == ENOTDIR { return }
      throw FileFailure(error, path: path)
    }
    do {
      try removeTree(LexicalPath.name(of: path), in: parent)
    } catch {
      throw FileFailure(error, path: path)
    }
  }

  /// How often a directory is emptied that other processes keep filling.
  private static let maximumAttempts = 16

  /// Depth first. `stack` holds the directories that remain to be removed, as paths relative to `parent`. Each is
  /// opened from there without following links, so the depth of the tree needs neither descriptors nor stack.
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
    let name = LexicalPath.name(of: path)
    if unlinkat(directory.rawValue, name, 0) == 0 || errno == ENOENT { return true }
    guard errno == EISDIR || errno == EPERM else { throw SystemError.current("unlink", subject: path) }
    if unlinkat(directory.rawValue, name, AT_REMOVEDIR) == 0 || errno == ENOENT { return true }
    guard errno == ENOTEMPTY || errno == EEXIST else { throw SystemError.current("rmdir", subject: path) }
    return false
  }

  /// Removes the files of one directory and pushes its directories on the stack.
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
  /// All names except `.` and `..`, in the kernel's order. Names that are not UTF-8 are repaired, so they may not name
  /// the file.
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
