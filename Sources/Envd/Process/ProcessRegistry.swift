import Concurrency
package import NIOCore
package import Protos

/// The processes that clients can name: running ones, and for `retention` those that have ended, so that a late client
/// still gets their result.
package final class ProcessRegistry: Sendable {
  package static let retention = TimeAmount.seconds(30)
  package static let maximumRunning = 4096
  /// Beyond this number, the processes that ended first are removed early.
  package static let maximumEnded = 1024

  private struct State {
    var running: [UInt32: ManagedProcess] = [:]
    /// Oldest first.
    var ended: [ManagedProcess] = []
  }

  private let eventLoop: any EventLoop
  private let retention: TimeAmount
  private let state = Mutex(State())

  package init(eventLoop: any EventLoop, retention: TimeAmount = ProcessRegistry.retention) {
    self.eventLoop = eventLoop
    self.retention = retention
  }

  package var running: [ManagedProcess] { state.withLock { $0.running.values.sorted { $0.pid < $1.pid } } }
  package var endedCount: Int { state.withLock { $0.ended.count } }
  package var isFull: Bool { state.withLock { $0.running.count >= Self.maximumRunning } }

  /// Adds a process. If it has ended in the meantime, it is added as ended.
  package func add(_ process: ManagedProcess) {
    state.withLock { state in
      // The kernel has reused the pid of an ended process.
      state.ended.removeAll { $0.pid == process.pid }
      state.running[process.pid] = process
    }
    if process.isOver { retire(process) }
  }

  /// Moves a process to the ended ones, which are kept for `retention`. Idempotent.
  package func retire(_ process: ManagedProcess) {
    let isRetired = state.withLock { state in
      guard state.running[process.pid] === process else { return false }
      state.running[process.pid] = nil
      state.ended.append(process)
      if state.ended.count > Self.maximumEnded { state.ended.removeFirst() }
      return true
    }
    guard isRetired else { return }
    eventLoop.scheduleTask(in: retention) { [weak self, weak process] in
      guard let self, let process else { return }
      state.withLock { $0.ended.removeAll { $0 === process } }
    }
  }

  /// The process with this pid, or the youngest with this tag; running ones are preferred.
  /// - Throws: `unknownPID`, `unknownTag`, `invalidRequest` for an empty selector.
  package func find(_ selector: Process_ProcessSelector) throws(ProcessServiceError) -> ManagedProcess {
    switch selector.selector {
    case .pid(let pid):
      let found = state.withLock { state in state.running[pid] ?? state.ended.last { $0.pid == pid } }
      guard let found else { throw .unknownPID(pid) }
      return found
    case .tag(let tag):
      let found = state.withLock { state in
        state.running.values.filter { $0.description.tag == tag }.max { $0.startedAt < $1.startedAt }
          ?? state.ended.last { $0.description.tag == tag }
      }
      guard let found else { throw .unknownTag(tag) }
      return found
    case nil:
      throw .invalidRequest("the process selector needs a pid or a tag")
    }
  }

  /// Like `find`, but only for running processes.
  package func findRunning(_ selector: Process_ProcessSelector) throws(ProcessServiceError) -> ManagedProcess {
    let process = try find(selector)
    guard !process.isOver else {
      if case .tag(let tag)? = selector.selector { throw .unknownTag(tag) }
      throw .unknownPID(process.pid)
    }
    return process
  }
}
