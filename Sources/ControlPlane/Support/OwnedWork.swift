import Concurrency
import Model

/// The owner of a piece of work.
enum WorkKey: Hashable, Sendable {
  case sandbox(SandboxID)
  case snapshot(TeamID, SafeName)
}

/// Runs work that belongs to a sandbox or snapshot and not to the request that started it: it continues when the client
/// disconnects.
///
/// It also tells the monitor which sandboxes and snapshots are being changed, so that the monitor does not take a
/// creation in progress for a row that a crash left behind.
final class OwnedWork: Sendable {
  private struct State {
    var counts: [WorkKey: Int] = [:]
    var tasks: [Int: Task<Void, Never>] = [:]
    /// Work that ended before its task was stored.
    var finished: Set<Int> = []
    var next = 0
  }

  private let state = Mutex(State())

  func isBusy(_ id: SandboxID) -> Bool {
    isBusy(.sandbox(id))
  }

  func isBusy(_ key: WorkKey) -> Bool {
    state.withLock { $0.counts[key] != nil }
  }

  /// Starts `work` and waits for its result. The work continues when the caller is cancelled.
  func run<Value: Sendable>(
    for id: SandboxID, _ work: @escaping @Sendable () async throws -> Value
  ) async throws -> Value {
    try await run(for: [.sandbox(id)], work)
  }

  func run<Value: Sendable>(
    for keys: [WorkKey], _ work: @escaping @Sendable () async throws -> Value
  ) async throws -> Value {
    let number = begin(keys)
    // Unstructured, so that it survives the caller; `drain` waits for it at shutdown.
    let task = Task {
      defer { end(keys, number) }
      return try await work()
    }
    keep(Task { _ = await task.result }, number)
    return try await task.value
  }

  /// Starts `work` without waiting for it.
  func start(for key: WorkKey, _ work: @escaping @Sendable () async -> Void) {
    let number = begin([key])
    keep(
      Task {
        await work()
        end([key], number)
      }, number)
  }

  /// Waits until no work is left.
  func drain() async {
    while let task = state.withLock({ $0.tasks.values.first }) {
      await task.value
      await Task.yield()
    }
  }

  private func begin(_ keys: [WorkKey]) -> Int {
    state.withLock { state in
      for key in keys { state.counts[key, default: 0] += 1 }
      state.next += 1
      return state.next
    }
  }

  private func keep(_ task: Task<Void, Never>, _ number: Int) {
    state.withLock { state in
      if state.finished.remove(number) == nil { state.tasks[number] = task }
    }
  }

  private func end(_ keys: [WorkKey], _ number: Int) {
    state.withLock { state in
      for key in keys {
        if let count = state.counts[key] { state.counts[key] = count > 1 ? count - 1 : nil }
      }
      if state.tasks.removeValue(forKey: number) == nil { state.finished.insert(number) }
    }
  }
}
