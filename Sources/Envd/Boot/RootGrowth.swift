import CLinux
import Glibc
package import LinuxSystem
import SystemPackage

/// Grows the mounted root file system to the size of its disk.
package enum RootGrowth {
  /// Source: linux/include/uapi/linux/magic.h
  private static let ext4Magic = 0xEF53
  /// Unit of /sys/dev/block/*/size, independent of the disk's sector size.
  private static let sectorBytes: UInt64 = 512

  package enum Outcome: Sendable, Equatable {
    case grown(fromBlocks: UInt64, toBlocks: UInt64)
    case alreadyLarge
    /// The root file system is not ext4 on a block device.
    case notApplicable
  }

  package static func run() throws(SystemError) -> Outcome {
    let root = try OwnedDescriptor.open("/", O_RDONLY | O_DIRECTORY)
    var status = stat()
    try SystemError.check("fstat", "/") { fstat(root.rawValue, &status) }
    var system = statfs()
    try SystemError.check("fstatfs", "/") { fstatfs(root.rawValue, &system) }
    guard Int(system.f_type) == ext4Magic, system.f_bsize > 0, let sectors = sectors(of: UInt64(status.st_dev)) else {
      return .notApplicable
    }
    let current = UInt64(system.f_blocks)
    let target = sectors * sectorBytes / UInt64(system.f_bsize)
    // f_blocks does not count metadata, so a file system of full size looks smaller. The kernel does nothing then.
    guard target > current else { return .alreadyLarge }
    let result = martlet_guest_resize_ext4(root.rawValue, target)
    guard result == 0 else { throw SystemError("ioctl(EXT4_IOC_RESIZE_FS)", Errno(rawValue: -result), subject: "/") }
    return .grown(fromBlocks: current, toBlocks: target)
  }

  /// Size of a block device in sectors. Source: makedev(3) for the layout of device numbers, sysfs(5).
  private static func sectors(of device: UInt64) -> UInt64? {
    let major = (device >> 8 & 0xFFF) | (device >> 32 & 0xFFFF_F000)
    let minor = (device & 0xFF) | (device >> 12 & 0xFFFF_FF00)
    guard let text = try? SmallFile.readText("/sys/dev/block/\(major):\(minor)/size") else { return nil }
    return text.split(separator: "\n").first.flatMap { UInt64($0) }
  }
}
