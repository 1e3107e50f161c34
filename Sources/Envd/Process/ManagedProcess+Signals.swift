import Concurrency
import Glibc
import LinuxSystem
import NIOCore

extension ManagedProcess {
  /// Signals the process, or its whole group. After SIGKILL or SIGTERM the end does not wait for the outputs.
  /// - Returns: false when there is nothing left to signal.
  package func signal(_ number: Int32, group: Bool) -> Bool {
    let pid = state.withLock { $0.publishedEnd == nil ? $0.pid : 0 }
    guard pid > 0 else { return false }
    // First the note, then the signal: the exit may arrive before this call goes on.
    let isStop = number == SIGKILL || number == SIGTERM
    let ends = isStop && state.withLock { $0.lifecycle.stopRequested() }
    defer { if ends { finish() } }
    if reaper.signal(pid, number, group: group) { return true }
    // The leader has been reaped, but others hold its outputs. Their group's number is not reused while it has members.
    if group && kill(-pid, number) == 0 { return true }
    return ends
  }

  /// Kills the process group because the time-out has passed.
  package func timeOut() {
    let (pid, ends) = state.withLock { state in
      (state.publishedEnd == nil ? state.pid : 0, state.lifecycle.stopRequested(isTimeout: true))
    }
    guard pid > 0 else { return }
    if !reaper.signal(pid, SIGKILL, group: true) { kill(-pid, SIGKILL) }
    if ends { finish() }
  }

  /// Sets the terminal's size; 0 stands for the default, since programs take a terminal of no size for broken (L-45).
  /// - Throws: `noTerminal`, or `failed` with the ioctl's error.
  package func resize(_ size: WindowSize) throws(ProcessServiceError) {
    let descriptor = state.withLock { $0.outputs[.terminal]?.registration.descriptor }
    guard hasTerminal else { throw .noTerminal }
    guard let descriptor else { throw .over }
    do {
      try size.apply(to: descriptor)
    } catch {
      throw .failed(error)
    }
  }
}
