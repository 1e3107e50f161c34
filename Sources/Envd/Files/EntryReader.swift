import CLinux
import Glibc
import LinuxSystem
import Protos
import SwiftProtobuf

/// Reads file entries for the Filesystem service. Blocks.
///
/// For a symbolic link, `type` and `mode` are the target's and everything else is the link's. A link without a target
/// has no type.
///
/// Source: E2B's envd contract
struct EntryReader: Sendable {
  let users: UserDatabase

  /// - Throws: `notFound` and the other errors of lstat(2).
  func entry(_ path: String) throws(FileFailure) -> Filesystem_EntryInfo {
    var status = stat()
    guard lstat(path, &status) == 0 else { throw FileFailure(.current("lstat", subject: path), path: path) }
    var entry = Filesystem_EntryInfo()
    entry.name = LexicalPath.name(of: path)
    entry.path = path
    entry.size = Int64(status.st_size)
    entry.type = Self.type(status.st_mode)
    entry.mode = UInt32(status.st_mode & 0o777)
    entry.permissions = FileModeText.text(status.st_mode)
    entry.owner = users.name(ofUID: status.st_uid) ?? String(status.st_uid)
    entry.group = users.name(ofGID: status.st_gid) ?? String(status.st_gid)
    entry.modifiedTime.seconds = Int64(status.st_mtim.tv_sec)
    entry.modifiedTime.nanos = Int32(status.st_mtim.tv_nsec)
    if status.st_mode & S_IFMT == S_IFLNK { describeTarget(of: path, in: &entry) }
    if entry.type == .file || entry.type == .directory { entry.metadata = FileMetadata.read(path: path).values }
    return entry
  }

  private func describeTarget(of path: String, in entry: inout Filesystem_EntryInfo) {
    entry.type = .unspecified
    entry.symlinkTarget = path
    var status = stat()
    guard stat(path, &status) == 0 else { return }
    entry.type = Self.type(status.st_mode)
    entry.mode = UInt32(status.st_mode & 0o777)
    if let resolved = realpath(path, nil) {
      entry.symlinkTarget = String(cString: resolved)
      free(resolved)
    }
  }

  /// The contract has no types for pipes, sockets and devices.
  private static func type(_ mode: mode_t) -> Filesystem_FileType {
    switch mode & S_IFMT {
    case S_IFREG: .file
    case S_IFDIR: .directory
    case S_IFLNK: .symlink
    default: .unspecified
    }
  }
}

/// A file mode in Go's format (`drwxr-xr-x`, `Lrwxrwxrwx`, `dtrwxrwxrwx`): every special bit is a letter before the
/// nine permission letters; a regular file has `-` there.
///
/// Source: E2B's envd contract; Go's io/fs.FileMode.String
enum FileModeText {
  static func text(_ mode: mode_t) -> String {
    var letters = typeLetters(mode)
    if mode & S_ISUID != 0 { letters += "u" }
    if mode & S_ISGID != 0 { letters += "g" }
    if mode & S_IFMT == S_IFCHR { letters += "c" }
    if mode & S_ISVTX != 0 { letters += "t" }
    return (letters.isEmpty ? "-" : letters) + permissionLetters(mode)
  }

  private static func typeLetters(_ mode: mode_t) -> String {
    switch mode & S_IFMT {
    case S_IFDIR: "d"
    case S_IFLNK: "L"
    case S_IFBLK, S_IFCHR: "D"
    case S_IFIFO: "p"
    case S_IFSOCK: "S"
    default: ""
    }
  }

  private static func permissionLetters(_ mode: mode_t) -> String {
    var letters = ""
    for (index, letter) in "rwxrwxrwx".enumerated() {
      letters.append(mode & (1 << mode_t(8 - index)) != 0 ? letter : "-")
    }
    return letters
  }
}
