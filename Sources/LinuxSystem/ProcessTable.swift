import CLinux
import Glibc
import SystemPackage

/// Reads /proc. Source: proc(5).
package enum ProcessTable {
  /// The time at which a process started, in clock ticks after boot; pid and start time together identify a process.
  /// - Returns: nil when the process does not exist or is a zombie.
  /// - Throws: when /proc cannot be read for any other reason, such as EMFILE. Then the process may exist.
  package static func startTimeTicks(of pid: Int32) throws(SystemError) -> UInt64? {
    guard let bytes = try file("stat", of: pid) else { return nil }
    let text = String(decoding: bytes, as: UTF8.self)
    guard let nameEnd = text.lastIndex(of: ")") else { throw SystemError("read", .invalidArgument, subject: text) }
    // Field 3 (state) is the first after the name; the start time is field 22.
    let fields = text[text.index(after: nameEnd)...].split(separator: " ")
    guard fields.count > 19, let ticks = UInt64(fields[19]) else {
      throw SystemError("read", .invalidArgument, subject: text)
    }
    return fields[0] == "Z" || fields[0] == "X" ? nil : ticks
  }

  /// - Returns: the command line; empty when the process does not exist or is a zombie.
  /// - Throws: when /proc cannot be read for any other reason.
  package static func arguments(of pid: Int32) throws(SystemError) -> [String] {
    guard let bytes = try file("cmdline", of: pid) else { return [] }
    return bytes.split(separator: 0, omittingEmptySubsequences: false).dropLast().map {
      String(decoding: $0, as: UTF8.self)
    }
  }

  /// - Returns: the real user of a process; nil when it does not exist.
  /// - Throws: when /proc cannot be read for any other reason.
  package static func userID(of pid: Int32) throws(SystemError) -> UInt32? {
    guard let bytes = try file("status", of: pid) else { return nil }
    let line = String(decoding: bytes, as: UTF8.self).split(separator: "\n").first { $0.hasPrefix("Uid:") }
    return line?.split(whereSeparator: \.isWhitespace).dropFirst().first.flatMap { UInt32($0) }
  }

  package static func pids() throws(SystemError) -> [Int32] {
    try Directories.names(in: "/proc").compactMap { Int32($0) }
  }

  /// Content of `/proc/PID/NAME`; nil when the process does not exist.
  private static func file(_ name: String, of pid: Int32) throws(SystemError) -> [UInt8]? {
    do throws(SystemError) {
      return try SmallFile.read("/proc/\(pid)/\(name)")
    } catch {
      // ESRCH: the process ended between open(2) and read(2).
      guard error.errno == .noSuchFileOrDirectory || error.errno == .noSuchProcess else { throw error }
      return nil
    }
  }
}

/// A process, whether a child of this process or not, referenced by a pidfd: the handle never refers to another
/// process.
package final class ProcessHandle: Sendable {
  package let pid: Int32
  package let startTimeTicks: UInt64
  private let pidfd: OwnedDescriptor

  /// The running process with this pid and start time.
  /// - Returns: nil when the process has ended, which only ESRCH and another start time prove.
  /// - Throws: every other error, such as EMFILE: the process may still run.
  package static func open(pid: Int32, startTimeTicks: UInt64) throws(SystemError) -> ProcessHandle? {
    guard let handle = try open(pid: pid), handle.startTimeTicks == startTimeTicks else { return nil }
    return handle
  }

  /// The running process with this pid; nil and errors as in `open(pid:startTimeTicks:)`.
  package static func open(pid: Int32) throws(SystemError) -> ProcessHandle? {
    guard let pidfd = try OwnedDescriptor.process(pid) else { return nil }
    return try handle(pid, pidfd)
  }

  /// A child of this process; nil when it has ended.
  package static func of(_ child: ChildProcess) throws(SystemError) -> ProcessHandle? {
    try handle(child.pid, child.pidfd)
  }

  private static func handle(_ pid: Int32, _ pidfd: OwnedDescriptor) throws(SystemError) -> ProcessHandle? {
    // Read after the pidfd is open, so that both refer to the same process.
    guard let ticks = try ProcessTable.startTimeTicks(of: pid) else { return nil }
    return ProcessHandle(pid: pid, startTimeTicks: ticks, pidfd: pidfd)
  }

  /// A running process, for a caller to whom /proc is closed; its start time stays unknown (0). Nil and errors as in
  /// `open(pid:startTimeTicks:)`.
  package static func openWithoutStartTime(pid: Int32) throws(SystemError) -> ProcessHandle? {
    try OwnedDescriptor.process(pid).map { ProcessHandle(pid: pid, adopting: $0) }
  }

  /// The process that a pidfd from another process is of; its start time stays unknown (0).
  package convenience init(pid: Int32, adopting pidfd: OwnedDescriptor) {
    self.init(pid: pid, startTimeTicks: 0, pidfd: pidfd)
  }

  private init(pid: Int32, startTimeTicks: UInt64, pidfd: OwnedDescriptor) {
    self.pid = pid
    self.startTimeTicks = startTimeTicks
    self.pidfd = pidfd
  }

  /// Readable when the process has ended; for polling, and for calls that take a pidfd.
  package var pollDescriptor: Int32 { pidfd.rawValue }

  package func signal(_ number: Int32) {
    _ = clinux_pidfd_send_signal(pidfd.rawValue, number)
  }

  /// Whether the process has ended (it may still be a zombie).
  package var hasEnded: Bool {
    var polled = pollfd(fd: pidfd.rawValue, events: Int16(POLLIN), revents: 0)
    return poll(&polled, 1, 0) == 1 && polled.revents & Int16(POLLIN) != 0
  }

  /// Returns when the process has ended or the task is cancelled.
  package func waitForExit() async {
    while !hasEnded && !Task.isCancelled {
      await DescriptorWatcher.shared.waitUntilReadable(pidfd.rawValue)
    }
  }

  /// Reaps the process if it is a child of this process; nil otherwise (its exit status is then unknown).
  package func reap() -> ExitStatus? {
    var code: Int32 = 0
    var status: Int32 = 0
    guard clinux_pidfd_wait(pidfd.rawValue, 0, &code, &status) == 1 else { return nil }
    return code == CLD_EXITED ? .exited(status) : .signaled(status)
  }
}
