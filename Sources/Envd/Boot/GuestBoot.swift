import CLinux
import Glibc
package import LinuxSystem
package import Logging
import SystemPackage

/// The boot steps of process 1, done before it serves requests. A step that fails is logged and the next one follows:
/// an agent that responds and reports what is missing is more useful than a kernel panic.
package struct GuestBoot: Sendable {
  package let commandLine: KernelCommandLine
  package let userProcesses: UserCgroup?

  /// Exempts the agent from the kernel's out-of-memory killer. Source: proc_pid_oom_score_adj(5).
  private static let protectedScore = "-1000"

  /// Runs all steps. They take little more than their system calls.
  package static func run(usesCgroup: Bool, logger: Logger) -> GuestBoot {
    umask(0o022)
    for failure in GuestMounts.mountAll() { logger.warning("mount failed", metadata: ["error": "\(failure)"]) }
    attempt("protect the agent from the out-of-memory killer", logger) { () throws(SystemError) in
      try SmallFile.write(protectedScore, to: "/proc/self/oom_score_adj")
    }
    let commandLine = KernelCommandLine((try? SmallFile.readText("/proc/cmdline")) ?? "")
    attempt("bring the network up", logger) { () throws(SystemError) in try GuestNetwork.bringUp(commandLine) }
    attempt("write /etc/resolv.conf", logger) { () throws(SystemError) in
      try GuestNetwork.writeResolver(commandLine.nameServers)
    }
    attempt("grow the root file system", logger) { () throws(SystemError) in try growRoot(logger) }
    return GuestBoot(commandLine: commandLine, userProcesses: usesCgroup ? makeCgroup(logger) : nil)
  }

  private static func growRoot(_ logger: Logger) throws(SystemError) {
    let start = ContinuousClock.now
    guard case .grown(let from, let to) = try RootGrowth.run() else { return }
    logger.info(
      "root file system grown",
      metadata: [
        "blocks.from": "\(from)", "blocks.to": "\(to)",
        "duration.ms": "\(Int((ContinuousClock.now - start) / .milliseconds(1)))",
      ])
  }

  private static func makeCgroup(_ logger: Logger) -> UserCgroup? {
    do {
      let memory = MemoryInformation(procMeminfo: try SmallFile.readText("/proc/meminfo"))
      return try UserCgroup.create(totalMemoryBytes: memory.total)
    } catch {
      logger.warning(
        "no control group for user processes: they are not bounded and cannot be frozen",
        metadata: ["error": "\(error)"])
      return nil
    }
  }

  private static func attempt(_ step: String, _ logger: Logger, _ body: () throws(SystemError) -> Void) {
    do {
      try body()
    } catch {
      logger.error("boot step failed", metadata: ["step": "\(step)", "error": "\(error)"])
    }
  }
}

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
