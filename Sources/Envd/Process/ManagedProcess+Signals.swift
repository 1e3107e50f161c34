import Concurrency
import Glibc
import LinuxSystem
import NIOCore

extension ManagedProcess {
  /// Signals the process or its group. After SIGKILL or SIGTERM the process is over without waiting for its outputs.
  /// - Returns: false when there is no process left to signal.
  package func signal(_ number: Int32, group: Bool) -> Bool {
    let pid = state.withLock { $0.publishedEnd == nil ? $0.pid : 0 }
    guard pid > 0 else { return false }
    // Recorded before the signal is sent, because the exit may arrive before this call continues.
    let isStop = number == SIGKILL || number == SIGTERM
    let ends = isStop && state.withLock { $0.lifecycle.stopRequested() }
    defer { if ends { finish() } }
    if reaper.signal(pid, number, group: group) { return true }
    // The leader has been reaped, but other processes of its group hold the outputs. The kernel does not reuse the
    // number of a group that has members.
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

  /// Sets the terminal's size. 0 stands for the default, since programs fail on a terminal of size 0.
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
