/// Runs at most one operation per key at a time. Callers that come while it runs share its result.
package final class SingleFlight<Key: Hashable & Sendable, Value: Sendable>: Sendable {
  private let tasks = Mutex([Key: Task<Value, any Error>]())

  package init() {}

  /// Number of operations that run.
  package var count: Int { tasks.withLock { $0.count } }

  /// Waits for the operation of `key`, and starts it if none runs.
  ///
  /// The operation runs in an unstructured task, because callers come and go: cancelling a caller does not cancel it,
  /// and does not end the caller's wait either. Bound the wait with `waitAtMost`.
  /// - Throws: the error of the operation, to all callers that share it.
  package func run(_ key: Key, _ operation: @escaping @Sendable () async throws -> Value) async throws -> Value {
    let task = tasks.withLock { tasks in
      if let task = tasks[key] { return task }
      let task = Task {
        defer { self.remove(key) }
        return try await operation()
      }
      tasks[key] = task
      return task
    }
    return try await task.value
  }

  private func remove(_ key: Key) {
    tasks.withLock { $0[key] = nil }
  }
}
