import Glibc
package import LinuxSystem
import SystemPackage

/// The file systems that process 1 mounts unless the initramfs has mounted them.
package enum GuestMounts {
  package struct Mount: Sendable, Equatable {
    package var type: String
    package var target: String
    package var flags: UInt
    package var options: String
  }

  private static let noProgramsOrDevices = UInt(MS_NOSUID) | UInt(MS_NODEV) | UInt(MS_NOEXEC)
  private static let noDevices = UInt(MS_NOSUID) | UInt(MS_NODEV)

  /// In the order of mounting. /tmp stays on the disk, because it can be large and memory is a sandbox's scarcest
  /// resource.
  package static let all = [
    Mount(type: "proc", target: "/proc", flags: noProgramsOrDevices, options: ""),
    Mount(type: "sysfs", target: "/sys", flags: noProgramsOrDevices, options: ""),
    Mount(type: "devtmpfs", target: "/dev", flags: UInt(MS_NOSUID), options: "mode=755"),
    Mount(
      type: "devpts", target: "/dev/pts", flags: UInt(MS_NOSUID) | UInt(MS_NOEXEC),
      options: "gid=5,mode=620,ptmxmode=666"),
    Mount(type: "tmpfs", target: "/dev/shm", flags: noDevices, options: "mode=1777"),
    Mount(type: "tmpfs", target: "/run", flags: noDevices, options: "mode=755,size=20%"),
    Mount(type: "cgroup2", target: "/sys/fs/cgroup", flags: noProgramsOrDevices, options: "nsdelegate"),
  ]

  /// Mounts the file systems that are not mounted yet. The guest starts even if a mount fails.
  /// - Returns: the failures, for the log.
  package static func mountAll() -> [SystemError] {
    var failures: [SystemError] = []
    for mount in all {
      do {
        try self.mount(mount)
      } catch {
        failures.append(error)
      }
    }
    makeLinks()
    return failures
  }

  private static func mount(_ entry: Mount) throws(SystemError) {
    if isMounted(entry.target) { return }
    try Directories.create(FilePath(entry.target))
    guard Glibc.mount(entry.type, entry.target, entry.type, entry.flags, entry.options) == 0 || errno == EBUSY else {
      throw SystemError.current("mount", subject: entry.target)
    }
  }

  /// Whether `path` is a mount point: its device differs from that of its parent directory.
  private static func isMounted(_ path: String) -> Bool {
    var own = stat()
    var parent = stat()
    guard lstat(path, &own) == 0, lstat(path + "/..", &parent) == 0 else { return false }
    return own.st_dev != parent.st_dev
  }

  /// Creates the links in /dev that programs expect and devtmpfs lacks.
  private static func makeLinks() {
    for (target, link) in [
      ("/proc/self/fd", "/dev/fd"), ("/proc/self/fd/0", "/dev/stdin"), ("/proc/self/fd/1", "/dev/stdout"),
      ("/proc/self/fd/2", "/dev/stderr"), ("pts/ptmx", "/dev/ptmx"),
    ] where access(link, F_OK) != 0 {
      _ = symlink(target, link)
    }
  }
}
