import Glibc
package import SystemPackage

/// How much room a file system has left.
package enum FileSystemSpace {
  /// Less than this is none: tools fail in many ways when they get nothing more.
  private static let negligibleBytes: UInt64 = 1 << 20

  /// Whether the file system of `path` is as good as full; false when that cannot be told. Source: statvfs(3).
  package static func isExhausted(at path: FilePath) -> Bool {
    var status = statvfs()
    guard statvfs(path.string, &status) == 0 else { return false }
    return UInt64(status.f_bavail) * UInt64(status.f_frsize) < negligibleBytes
  }
}
