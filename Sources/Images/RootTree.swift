import Glibc
import LinuxSystem
import SystemPackage

/// The tree of a root file system on the host, possibly untrusted.
///
/// Paths passed to it are guest paths. Symbolic links in the tree are followed as the guest would follow them, with the
/// tree as root: an absolute link or one with too many `..` never leads out of it. No other process may change the tree
/// meanwhile: it must be a private copy in a directory that only root can enter.
struct RootTree: Sendable {
  /// The kernel's own limit. Source: path_resolution(7).
  static let maximumLinks = 40

  let root: FilePath

  /// The host path of a guest path, with every symbolic link on the way resolved inside the tree.
  ///
  /// - Parameter followsLast: whether a link in the last component is followed.
  /// - Throws: `SystemError` ELOOP after too many links. Components that do not exist are kept unchanged.
  func resolve(_ path: String, followsLast: Bool = true) throws(SystemError) -> FilePath {
    var pending = Array(path.split(separator: "/").map(String.init).reversed())
    var resolved: [String] = []
    var links = 0
    while let component = pending.popLast() {
      if component == "." { continue }
      if component == ".." {
        _ = resolved.popLast()
        continue
      }
      let candidate = hostPath(resolved + [component])
      guard followsLast || !pending.isEmpty, let target = ImageStore.readLink(candidate) else {
        resolved.append(component)
        continue
      }
      links += 1
      guard links <= Self.maximumLinks else { throw SystemError("resolve", .tooManySymbolicLinkLevels, subject: path) }
      if target.hasPrefix("/") { resolved = [] }
      pending.append(contentsOf: target.split(separator: "/").map(String.init).reversed())
    }
    return hostPath(resolved)
  }

  /// Creates a directory and its parents unless they exist; sets owner and permissions of the last.
  @discardableResult
  func makeDirectory(_ path: String, permissions: UInt32 = 0o755, owner: UInt32 = 0) throws(SystemError) -> FilePath {
    let place = try makeParents(of: path).appending(Self.lastComponent(path))
    // A file or dangling link at the path of a directory that every system has is replaced.
    if try kind(path) != S_IFDIR { unlink(place.string) }
    let target = try resolve(path)
    if mkdir(target.string, permissions) != 0 && errno != EEXIST { throw SystemError.current("mkdir", subject: path) }
    try SystemError.check("chown", path) { lchown(target.string, owner, owner) }
    try SystemError.check("chmod", path) { chmod(target.string, permissions) }
    return target
  }

  /// Writes a new file, replacing a file, link or directory at the path.
  func write(_ content: [UInt8], to path: String, permissions: UInt32 = 0o644, owner: UInt32 = 0) throws(SystemError) {
    let place = try makePlace(path)
    // Exclusive creation: the file cannot be one that another process placed at the path.
    let descriptor = try OwnedDescriptor.open(place.string, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, mode: 0o600)
    try Self.writeAll(content, to: descriptor, path)
    try SystemError.check("fchown", path) { fchown(descriptor.rawValue, owner, owner) }
    try SystemError.check("fchmod", path) { fchmod(descriptor.rawValue, permissions) }
  }

  func write(_ text: String, to path: String, permissions: UInt32 = 0o644, owner: UInt32 = 0) throws(SystemError) {
    try write(Array(text.utf8), to: path, permissions: permissions, owner: owner)
  }

  /// Appends to an existing regular file; its owner and permissions stay.
  func append(_ text: String, to path: String) throws(SystemError) {
    let descriptor = try OwnedDescriptor.open(try resolve(path).string, O_WRONLY | O_APPEND | O_NOFOLLOW | O_NONBLOCK)
    try Self.writeAll(Array(text.utf8), to: descriptor, path)
  }

  func link(_ path: String, to target: String) throws(SystemError) {
    let place = try makePlace(path)
    try SystemError.check("symlink", path) { symlink(target, place.string) }
  }

  /// Prepares a path for a new entry: creates the parents and removes an existing entry. Returns the host path.
  func makePlace(_ path: String) throws(SystemError) -> FilePath {
    let place = try makeParents(of: path).appending(Self.lastComponent(path))
    try Directories.removeTree(place)
    return place
  }

  /// Content of a small file, or nil when there is none.
  func readText(_ path: String) throws(SystemError) -> String? {
    guard try kind(path) == S_IFREG else { return nil }
    return try SmallFile.readText(try resolve(path).string)
  }

  /// File type bits of the path's target, or nil when it does not exist.
  func kind(_ path: String) throws(SystemError) -> UInt32? {
    var status = stat()
    guard lstat(try resolve(path).string, &status) == 0 else { return nil }
    return status.st_mode & S_IFMT
  }

  func isExecutable(_ path: String) throws(SystemError) -> Bool {
    var status = stat()
    guard lstat(try resolve(path).string, &status) == 0 else { return false }
    return status.st_mode & S_IFMT == S_IFREG && status.st_mode & 0o111 != 0
  }

  /// Removes the entry at a path, never through a link. An absent entry is success.
  func remove(_ path: String) throws(SystemError) {
    try Directories.removeTree(try resolve(path, followsLast: false))
  }

  /// Removes everything inside a directory; an absent directory is success.
  func empty(_ path: String) throws(SystemError) {
    guard try kind(path) == S_IFDIR else { return }
    let directory = try resolve(path)
    for name in try Directories.names(in: directory) { try Directories.removeTree(directory.appending(name)) }
  }

  private static func writeAll(_ content: [UInt8], to descriptor: OwnedDescriptor, _ path: String) throws(SystemError) {
    var offset = 0
    while offset < content.count {
      offset += try SystemError.check("write", path) {
        content.withUnsafeBytes {
          Glibc.write(descriptor.rawValue, $0.baseAddress.map { $0 + offset }, content.count - offset)
        }
      }
    }
  }

  private func makeParents(of path: String) throws(SystemError) -> FilePath {
    let parents = path.split(separator: "/").dropLast()
    guard !parents.isEmpty else { return root }
    let parent = parents.joined(separator: "/")
    let directory = try resolve(parent)
    if try kind(parent) != nil { return directory }
    try Directories.create(directory)
    return directory
  }

  private func hostPath(_ components: [String]) -> FilePath {
    FilePath(([root.string] + components).joined(separator: "/"))
  }

  private static func lastComponent(_ path: String) -> String {
    path.split(separator: "/").last.map(String.init) ?? ""
  }
}
