import Concurrency
package import NIOCore
package import Protos

/// The processes that clients can name: those that run, and for a while those that have ended, so that a client that
/// comes late still learns how they ended.
package final class ProcessRegistry: Sendable {
  package static let retention = TimeAmount.seconds(30)
  package static let maximumRunning = 4096
  /// Beyond this, the longest-ended processes are forgotten early.
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

  /// Makes a process findable; one that has ended in the meantime is kept as such.
  package func add(_ process: ManagedProcess) {
    state.withLock { state in
      // Its pid is a new one, whatever older process had the same number.
      state.ended.removeAll { $0.pid == process.pid }
      state.running[process.pid] = process
    }
    if process.isOver { retire(process) }
  }

  /// Moves an ended process to those that are remembered for `retention`. Idempotent.
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

  /// Like `find`, for what makes sense only while the process runs.
  package func findRunning(_ selector: Process_ProcessSelector) throws(ProcessServiceError) -> ManagedProcess {
    let process = try find(selector)
    guard !process.isOver else {
      if case .tag(let tag)? = selector.selector { throw .unknownTag(tag) }
      throw .unknownPID(process.pid)
    }
    return process
  }
}
