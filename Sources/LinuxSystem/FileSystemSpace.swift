import Glibc
package import SystemPackage

/// Free space of file systems.
package enum FileSystemSpace {
  /// Less free space than this counts as none: tools fail in many ways with so little.
  private static let negligibleBytes: UInt64 = 1 << 20

  /// Whether the file system of `path` is full; false when that is unknown. Source: statvfs(3).
  package static func isExhausted(at path: FilePath) -> Bool {
    var status = statvfs()
    guard statvfs(path.string, &status) == 0 else { return false }
    return UInt64(status.f_bavail) * UInt64(status.f_frsize) < negligibleBytes
  }
}
