import CLinux
import Glibc
import SystemPackage

/// Reads /proc. Source: proc(5).
package enum ProcessTable {
  /// Start time of a process in clock ticks after boot; together with the pid it identifies a process uniquely. Nil
  /// when there is no such process or it is a zombie.
  package static func startTimeTicks(of pid: Int32) -> UInt64? {
    guard let text = try? SmallFile.readText("/proc/\(pid)/stat"), let nameEnd = text.lastIndex(of: ")") else {
      return nil
    }
    // Field 3 (state) is the first after the name; the start time is field 22.
    let fields = text[text.index(after: nameEnd)...].split(separator: " ")
    guard fields.count > 19, fields[0] != "Z", fields[0] != "X" else { return nil }
    return UInt64(fields[19])
  }

  package static func arguments(of pid: Int32) -> [String] {
    guard let bytes = try? SmallFile.read("/proc/\(pid)/cmdline") else { return [] }
    return bytes.split(separator: 0, omittingEmptySubsequences: false).dropLast().map {
      String(decoding: $0, as: UTF8.self)
    }
  }

  /// The real user of a process; nil when it is gone.
  package static func userID(of pid: Int32) -> UInt32? {
    guard let text = try? SmallFile.readText("/proc/\(pid)/status") else { return nil }
    let line = text.split(separator: "\n").first { $0.hasPrefix("Uid:") }
    return line?.split(whereSeparator: \.isWhitespace).dropFirst().first.flatMap { UInt32($0) }
  }

  package static func pids() -> [Int32] {
    ((try? Directories.names(in: "/proc")) ?? []).compactMap { Int32($0) }
  }
}

/// A process, whether a child of this process or not, referenced by a pidfd: the handle never refers to another
/// process.
package final class ProcessHandle: Sendable {
  package let pid: Int32
  package let startTimeTicks: UInt64
  private let pidfd: OwnedDescriptor

  /// Opens the running process with this pid and start time; nil when it has ended.
  package static func open(pid: Int32, startTimeTicks: UInt64) -> ProcessHandle? {
    guard let handle = open(pid: pid), handle.startTimeTicks == startTimeTicks else { return nil }
    return handle
  }

  package static func open(pid: Int32) -> ProcessHandle? {
    let descriptor = clinux_pidfd_open(pid)
    guard descriptor >= 0 else { return nil }
    let pidfd = OwnedDescriptor(descriptor)
    // Read after the pidfd is open, so that both refer to the same process.
    guard let ticks = ProcessTable.startTimeTicks(of: pid) else { return nil }
    return ProcessHandle(pid: pid, startTimeTicks: ticks, pidfd: pidfd)
  }

  /// A running process, for a caller to whom /proc is closed; its start time stays unknown (0).
  package static func openWithoutStartTime(pid: Int32) -> ProcessHandle? {
    let descriptor = clinux_pidfd_open(pid)
    return descriptor < 0 ? nil : ProcessHandle(pid: pid, adopting: OwnedDescriptor(descriptor))
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
    return poll(&polled, 1, 0) == 1
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
