import LinuxSystem

/// A process of this machine, as /proc lists it.
struct RunningProcess: Sendable {
  let pid: Int32
  let arguments: [String]

  /// All of them. Ends the tests when /proc cannot be read: an empty list would look like a host without leaks.
  static var all: [RunningProcess] {
    do {
      return try ProcessTable.pids().map { RunningProcess(pid: $0, arguments: try ProcessTable.arguments(of: $0)) }
    } catch {
      fatalError("the processes of this machine could not be listed: \(error)")
    }
  }

  /// Whether the process has ended.
  static func hasEnded(_ pid: Int32) -> Bool {
    do {
      return try ProcessTable.startTimeTicks(of: pid) == nil
    } catch {
      fatalError("process \(pid) could not be looked for: \(error)")
    }
  }
}
