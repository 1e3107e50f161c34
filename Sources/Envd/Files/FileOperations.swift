import CLinux
import Glibc
import LinuxSystem
import Protos
import SystemPackage

/// Stat, ListDir, MakeDir, Move and Remove on absolute, clean paths. All methods block.
///
/// Source: E2B's envd contract
struct FileOperations: Sendable {
  let users: UserDatabase
  let user: GuestUser

  func entry(_ path: String) throws(FileFailure) -> Filesystem_EntryInfo {
    try EntryReader(users: users).entry(path)
  }

  func list(_ path: String, depth: UInt32) throws(FileFailure) -> [Filesystem_EntryInfo] {
    var listing = DirectoryListing(users: users)
    return try listing.list(path, depth: depth)
  }

  func makeDirectory(_ path: String) throws(FileFailure) -> Filesystem_EntryInfo {
    var status = stat()
    if stat(path, &status) == 0 {
      guard status.st_mode & S_IFMT == S_IFDIR else {
        throw FileFailure(.invalidArgument, "path already exists but it is not a directory: \(path)")
      }
      throw FileFailure(.alreadyExists, "directory already exists: \(path)")
    }
    _ = try GuestDirectories.open(path, creatingFor: user)
    return try entry(path)
  }

  func move(from source: String, to destination: String) throws(FileFailure) -> Filesystem_EntryInfo {
    _ = try entry(source)
    let parent = try GuestDirectories.open(LexicalPath.parent(of: destination), creatingFor: user)
    do {
      try SystemError.check("rename", destination) {
        renameat(AT_FDCWD, source, parent.rawValue, LexicalPath.name(of: destination))
      }
    } catch {
      throw FileFailure(error, path: error.errno.rawValue == ENOENT ? source : destination)
    }
    return try entry(destination)
  }

  /// Removes the tree at `path`. A path that does not exist is a success.
  func remove(_ path: String) throws(FileFailure) {
    try GuestDirectories.removeTree(path)
  }
}

/// Lists a directory tree: depth first, sorted by bytes within a directory, parents before children. Only a symbolic
/// link at the root is followed.
///
/// Source: E2B's envd contract
struct DirectoryListing {
  /// Entries of one listing; larger trees must be listed in parts.
  static let maximumEntries = 100_000

  private let reader: EntryReader
  private var entries: [Filesystem_EntryInfo] = []

  init(users: UserDatabase) {
    reader = EntryReader(users: users)
  }

  /// Lists a directory. Blocks.
  /// - Parameters:
  ///   - path: absolute and clean; the prefix of the entries' paths.
  ///   - depth: 1 lists the directory's own entries; 0 means 1.
  /// - Throws: `notFound`, `invalidArgument` if it is not a directory, `resourceExhausted` beyond `maximumEntries`.
  mutating func list(_ path: String, depth: UInt32) throws(FileFailure) -> [Filesystem_EntryInfo] {
    let root: OwnedDescriptor
    do {
      root = try OwnedDescriptor.open(path, O_RDONLY | O_DIRECTORY)
    } catch {
      guard error.errno.rawValue == ENOTDIR else { throw FileFailure(error, path: path) }
      throw FileFailure(.invalidArgument, "path is not a directory: \(path)")
    }
    // The entries that have not been read yet, in reverse order.
    var stack = try children(of: root, path: path, depth: 1)
    while let (child, level) = stack.popLast() {
      guard let isDirectory = try append(child) else { continue }
      guard isDirectory, level < max(depth, 1) else { continue }
      stack += try children(ofDirectory: child, root: root, rootPath: path, depth: level + 1)
    }
    return entries
  }

  /// - Returns: whether the entry is a directory (false for links to directories); nil if it no longer exists.
  private mutating func append(_ path: String) throws(FileFailure) -> Bool? {
    guard entries.count < Self.maximumEntries else {
      throw FileFailure(
        .resourceExhausted, "the listing has more than \(Self.maximumEntries) entries; list fewer levels at once")
    }
    do {
      let entry = try reader.entry(path)
      entries.append(entry)
      return entry.type == .directory && !entry.hasSymlinkTarget
    } catch {
      guard error.reason == .notFound else { throw error }
      return nil
    }
  }

  private func children(
    ofDirectory path: String, root: OwnedDescriptor, rootPath: String, depth: UInt32
  ) throws(FileFailure) -> [(String, UInt32)] {
    let relative = path.utf8.dropFirst(rootPath == "/" ? 1 : rootPath.utf8.count + 1)
    let descriptor = clinux_open_beneath(root.rawValue, String(Substring(relative)), O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    guard descriptor >= 0 else {
      // The directory has been removed or replaced since its entry was read.
      if [ENOENT, ENOTDIR, ELOOP, EXDEV].contains(errno) { return [] }
      throw FileFailure(.current("openat2", subject: path), path: path)
    }
    return try children(of: OwnedDescriptor(descriptor), path: path, depth: depth)
  }

  /// The entries in reverse order, for the stack.
  private func children(
    of directory: OwnedDescriptor, path: String, depth: UInt32
  ) throws(FileFailure) -> [(String, UInt32)] {
    do {
      return try DirectoryNames.read(directory, path: path)
        .sorted { $1.utf8.lexicographicallyPrecedes($0.utf8) }
        .map { (LexicalPath.joined(path, $0), depth) }
    } catch {
      throw FileFailure(error, path: path)
    }
  }
}
