import Glibc
package import LinuxSystem
package import SystemPackage

/// The control group of all user processes. Its memory is limited, so that the agent keeps working when users exhaust
/// theirs, and it can be frozen.
///
/// Source: Linux, Documentation/admin-guide/cgroup-v2.rst (memory.max, memory.oom.group, cgroup.freeze, cgroup.events).
package struct UserCgroup: Sendable {
  package static let name = "user"
  /// Memory reserved for the agent, kernel buffers and page tables.
  private static let reservedShare: Int64 = 16
  private static let reservedBytes: ClosedRange<Int64> = 24 * 1_048_576...192 * 1_048_576
  private static let freezeDeadlineMilliseconds: Int32 = 10_000

  package let directory: FilePath

  package init(directory: FilePath) {
    self.directory = directory
  }

  /// Creates the group below the root of the hierarchy.
  /// - Throws: when there is no cgroup2. The guest then runs its processes without a limit.
  package static func create(
    totalMemoryBytes: Int64, root: FilePath = "/sys/fs/cgroup"
  ) throws(SystemError) -> UserCgroup {
    let group = UserCgroup(directory: root.appending(name))
    try SmallFile.write("+memory", to: root.appending("cgroup.subtree_control").string)
    try Directories.create(group.directory)
    try group.set("memory.max", "\(memoryLimitBytes(of: totalMemoryBytes))")
    try group.set("memory.oom.group", "0")
    return group
  }

  /// The limit for all user processes together, given the machine's memory.
  package static func memoryLimitBytes(of total: Int64) -> Int64 {
    let reserve = min(max(total / reservedShare, reservedBytes.lowerBound), reservedBytes.upperBound)
    return max(total - reserve, total / 2)
  }

  /// Opens `cgroup.procs`, through which processes join the group before they execute.
  package func joinDescriptor() throws(SystemError) -> OwnedDescriptor {
    try OwnedDescriptor.open(directory.appending("cgroup.procs").string, O_WRONLY)
  }

  /// Freezes all processes and returns when they are frozen. Blocks.
  /// - Throws: `ETIMEDOUT` when a process is not frozen in time. All are thawed then.
  package func freeze() throws(SystemError) {
    let events = try OwnedDescriptor.open(directory.appending("cgroup.events").string, O_RDONLY)
    try set("cgroup.freeze", "1")
    var waited: Int32 = 0
    let step: Int32 = 50
    while try !Self.isFrozen(events) {
      guard waited < Self.freezeDeadlineMilliseconds else {
        try thaw()
        throw SystemError("freeze", .timedOut, subject: directory.string)
      }
      // The file signals every change. The short step bounds the delay if a signal is missed.
      var poll = pollfd(fd: events.rawValue, events: Int16(POLLPRI), revents: 0)
      if Glibc.poll(&poll, 1, step) == 0 { waited += step }
    }
  }

  /// Thaws the processes. Idempotent.
  package func thaw() throws(SystemError) {
    try set("cgroup.freeze", "0")
  }

  private static func isFrozen(_ events: OwnedDescriptor) throws(SystemError) -> Bool {
    var buffer = [UInt8](repeating: 0, count: 256)
    let count = try SystemError.check("pread", "cgroup.events") { pread(events.rawValue, &buffer, buffer.count, 0) }
    return String(decoding: buffer.prefix(count), as: UTF8.self).split(separator: "\n").contains("frozen 1")
  }

  private func set(_ file: String, _ value: String) throws(SystemError) {
    try SmallFile.write(value, to: directory.appending(file).string)
  }
}
