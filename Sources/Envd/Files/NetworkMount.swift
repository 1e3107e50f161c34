import CLinux
import Glibc
import LinuxSystem

/// Detects paths on network file systems, where inotify does not see changes by other machines.
///
/// Source: statfs(2), linux/magic.h
enum NetworkMount {
  private static let magics: Set<UInt32> = [
    0x6969,  // NFS
    0xFF53_4D42,  // CIFS
    0x517B,  // SMB
    0xFE53_4D42,  // SMB2
    0x6573_5546,  // FUSE
    0x0102_1997,  // 9P
    0x5346_414F,  // AFS
    0x00C3_6400,  // Ceph
  ]

  static func contains(_ path: String) throws(FileFailure) -> Bool {
    var status = statfs()
    guard statfs(path, &status) == 0 else { throw FileFailure(.current("statfs", subject: path), path: path) }
    return magics.contains(UInt32(truncatingIfNeeded: status.f_type))
  }
}
