import CLinux
import Concurrency
import Glibc
package import LinuxSystem

/// Creates, signals and reaps all children of the agent. One lock covers signalling and reaping, so a pid is never
/// signalled after it was reaped.
///
/// As process 1 (or as a child subreaper) the agent inherits orphaned processes; `reapOrphans` reaps those, and reports
/// the ends of its own children.
package final class ChildReaper: Sendable {
  package typealias ExitHandler = @Sendable (ExitStatus) -> Void

  private struct Child {
    let process: ChildProcess
    let onExit: ExitHandler
  }

  private struct State {
    var children: [Int32: Child] = [:]
    /// While this is not 0, a child that is not in `children` may belong to a spawn that has not returned yet.
    var spawnsInFlight = 0
  }

  private let adoptsOrphans: Bool
  private let state = Mutex(State())

  /// - Parameter adoptsOrphans: whether this process inherits orphaned processes.
  package init(adoptsOrphans: Bool) {
    self.adoptsOrphans = adoptsOrphans
  }

  package var count: Int { state.withLock { $0.children.count } }

  /// Starts a program. Blocks until the program executes, which a hung file system can delay, so it must not run on the
  /// cooperative pool.
  /// - Parameter onExit: called once, on the reaping thread.
  package func spawn(_ request: SpawnRequest, onExit: @escaping ExitHandler) throws(SpawnError) -> ChildProcess {
    state.withLock { $0.spawnsInFlight += 1 }
    defer { if adoptsOrphans { reapOrphans() } }
    do {
      let process = try ChildProcess.spawn(request)
      state.withLock { state in
        state.spawnsInFlight -= 1
        state.children[process.pid] = Child(process: process, onExit: onExit)
      }
      return process
    } catch {
      state.withLock { $0.spawnsInFlight -= 1 }
      throw error
    }
  }

  /// Reaps a child that has ended. Does nothing while the child runs.
  package func reap(_ pid: Int32) {
    let ended = state.withLock { state -> (Child, ExitStatus)? in
      guard let child = state.children[pid], let status = child.process.reapIfEnded() else { return nil }
      state.children[pid] = nil
      return (child, status)
    }
    if let (child, status) = ended { child.onExit(status) }
  }

  /// Reaps everything that has ended, including adopted orphans.
  package func reapOrphans() {
    while let pid = firstEnded() {
      let reapsOwn = state.withLock { state -> Bool? in
        if state.children[pid] != nil { return true }
        guard state.spawnsInFlight == 0 else { return nil }
        var code: Int32 = 0
        var status: Int32 = 0
        martlet_guest_wait(Int32(P_PID.rawValue), pid, 0, &code, &status)
        return false
      }
      // The spawn in flight calls this function again when it is done.
      guard let reapsOwn else { return }
      if reapsOwn { reap(pid) }
    }
  }

  /// Signals a child that has not been reaped, or its process group.
  /// - Returns: false when there is no such child.
  package func signal(_ pid: Int32, _ number: Int32, group: Bool) -> Bool {
    state.withLock { state in
      guard let child = state.children[pid] else { return false }
      return group ? kill(-pid, number) == 0 : child.process.signal(number)
    }
  }

  private func firstEnded() -> Int32? {
    var code: Int32 = 0
    var status: Int32 = 0
    let pid = martlet_guest_wait(Int32(P_ALL.rawValue), 0, WNOWAIT, &code, &status)
    return pid > 0 ? pid : nil
  }
}
