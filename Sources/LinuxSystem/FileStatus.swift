import Glibc

/// The result of stat(2). The C struct is not exposed, because the module that declares it differs between builds.
package struct FileStatus: Sendable, Equatable {
  package enum Kind: Sendable {
    case file
    case directory
    case link
    case other
  }

  package let kind: Kind
  package let sizeBytes: Int64
  /// Permission bits.
  package let mode: UInt32
  package let ownerUID: UInt32
  /// Allocated bytes, independent of the apparent size. The unit of st_blocks is 512 on every file system. Source:
  /// stat(3type).
  package let allocatedBytes: Int64
  package let identity: Identity

  /// Changes when the file is replaced and when its content or metadata is written.
  package struct Identity: Sendable, Hashable {
    package let device: UInt64
    package let inode: UInt64
    package let sizeBytes: Int64
    package let modifiedNanoseconds: Int64
    package let changedNanoseconds: Int64
  }

  /// Nil when the path does not exist.
  package static func of(_ path: String, followingLinks: Bool) throws(SystemError) -> FileStatus? {
    var raw = stat()
    let result = followingLinks ? stat(path, &raw) : lstat(path, &raw)
    guard result == 0 else {
      guard errno == ENOENT || errno == ENOTDIR else { throw SystemError.current("stat", subject: path) }
      return nil
    }
    return FileStatus(raw)
  }

  package static func of(descriptor: Int32) throws(SystemError) -> FileStatus {
    var raw = stat()
    guard fstat(descriptor, &raw) == 0 else { throw SystemError.current("fstat") }
    return FileStatus(raw)
  }

  private init(_ raw: stat) {
    kind =
      switch raw.st_mode & S_IFMT {
      case S_IFREG: .file
      case S_IFDIR: .directory
      case S_IFLNK: .link
      default: .other
      }
    sizeBytes = Int64(raw.st_size)
    mode = UInt32(raw.st_mode) & 0o7777
    ownerUID = raw.st_uid
    allocatedBytes = Int64(raw.st_blocks) * 512
    identity = Identity(
      device: UInt64(raw.st_dev), inode: UInt64(raw.st_ino), sizeBytes: Int64(raw.st_size),
      modifiedNanoseconds: Self.nanoseconds(raw.st_mtim), changedNanoseconds: Self.nanoseconds(raw.st_ctim))
  }

  private static func nanoseconds(_ time: timespec) -> Int64 {
    Int64(time.tv_sec) &* 1_000_000_000 &+ Int64(time.tv_nsec)
  }
}
