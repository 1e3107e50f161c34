import Model
import Synchronization

/// Work that belongs to a sandbox and not to the request that asked for it: a client that hangs up does not cancel it (L-7).
///
/// It also tells the monitor which sandboxes are being worked on, so that it does not take a creation in progress for a row
/// that a crash left behind.
final class OwnedWork: Sendable {
  private struct State {
    var counts: [SandboxID: Int] = [:]
    var tasks: [Int: Task<Void, Never>] = [:]
    /// Work that ended before its task could be kept.
    var finished: Set<Int> = []
    var next = 0
  }

  private let state = Mutex(State())

  func isBusy(_ id: SandboxID) -> Bool {
    state.withLock { $0.counts[id] != nil }
  }

  /// Starts `work` and waits for its result. The work goes on when the caller is cancelled.
  func run<Value: Sendable>(for id: SandboxID, _ work: @escaping @Sendable () async throws -> Value) async throws -> Value {
    let number = begin(id)
    // Unstructured on purpose; `drain` waits for it at shutdown.
    let task = Task {
      defer { end(id, number) }
      return try await work()
    }
    keep(Task { _ = await task.result }, number)
    return try await task.value
  }

  /// Starts `work` without waiting for it.
  func start(for id: SandboxID, _ work: @escaping @Sendable () async -> Void) {
    let number = begin(id)
    keep(
      Task {
        await work()
        end(id, number)
      }, number)
  }

  /// Waits until all work that has been started is done.
  func drain() async {
    while let task = state.withLock({ $0.tasks.values.first }) {
      await task.value
      await Task.yield()
    }
  }

  private func begin(_ id: SandboxID) -> Int {
    state.withLock { state in
      state.counts[id, default: 0] += 1
      state.next += 1
      return state.next
    }
  }

  private func keep(_ task: Task<Void, Never>, _ number: Int) {
    state.withLock { state in
      if state.finished.remove(number) == nil { state.tasks[number] = task }
    }
  }

  private func end(_ id: SandboxID, _ number: Int) {
    state.withLock { state in
      if let count = state.counts[id] { state.counts[id] = count > 1 ? count - 1 : nil }
      if state.tasks.removeValue(forKey: number) == nil { state.finished.insert(number) }
    }
  }
}
