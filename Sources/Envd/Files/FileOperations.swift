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
