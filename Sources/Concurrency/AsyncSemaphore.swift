/// Limits how many tasks do something at once. Further tasks wait in order of arrival.
package final class AsyncSemaphore: Sendable {
  /// Thrown by default when the queue of waiting tasks is full.
  package struct QueueFull: Error, Equatable {
    package init() {}
  }

  private struct State {
    var used = 0
    var peak = 0
    var nextID = 0
    /// In order of arrival.
    var waiters: [(id: Int, continuation: CheckedContinuation<Void, any Error>)] = []
    /// Waiters that were cancelled before they were queued.
    var cancelled: Set<Int> = []
  }

  private let permits: Int
  private let maximumWaiters: Int
  private let queueFull: any Error
  private let state = Mutex(State())

  /// - Parameters:
  ///   - permits: tasks that may hold a permit at once; at least 1.
  ///   - maximumWaiters: tasks that may wait for a permit.
  ///   - queueFull: thrown to a task that would exceed `maximumWaiters`.
  package init(permits: Int, maximumWaiters: Int, queueFull: any Error = QueueFull()) {
    self.permits = max(1, permits)
    self.maximumWaiters = maximumWaiters
    self.queueFull = queueFull
  }

  /// The largest number of permits that were in use at once.
  package var peak: Int { state.withLock { $0.peak } }

  /// Runs `body` while it holds a permit.
  /// - Throws: the errors of `acquire` and `body`.
  package func withPermit<Value>(
    isolation: isolated (any Actor)? = #isolation, _ body: () async throws -> Value
  ) async throws -> Value {
    try await acquire()
    defer { release() }
    return try await body()
  }

  /// Waits for a permit. The caller must call `release` afterwards.
  /// - Throws: the semaphore's `queueFull` error, or `CancellationError`; then the caller holds no permit.
  package func acquire() async throws {
    let id = state.withLock { state in
      state.nextID += 1
      return state.nextID
    }
    defer { state.withLock { _ = $0.cancelled.remove(id) } }
    try await withTaskCancellationHandler {
      try await withCheckedThrowingContinuation { continuation in
        let result = state.withLock { admit(id, continuation, &$0) }
        if let result { continuation.resume(with: result) }
      }
    } onCancel: {
      cancel(id)
    }
  }

  /// Returns a permit; the task that has waited longest gets it.
  package func release() {
    let next = state.withLock { state -> CheckedContinuation<Void, any Error>? in
      guard state.waiters.isEmpty else { return state.waiters.removeFirst().continuation }
      precondition(state.used > 0, "a permit was released twice")
      state.used -= 1
      return nil
    }
    next?.resume()
  }

  /// - Returns: nil when the task has to wait.
  private func admit(
    _ id: Int, _ continuation: CheckedContinuation<Void, any Error>, _ state: inout State
  ) -> Result<Void, any Error>? {
    guard !state.cancelled.contains(id) else { return .failure(CancellationError()) }
    if state.used < permits {
      state.used += 1
      state.peak = max(state.peak, state.used)
      return .success(())
    }
    guard state.waiters.count < maximumWaiters else { return .failure(queueFull) }
    state.waiters.append((id, continuation))
    return nil
  }

  private func cancel(_ id: Int) {
    let continuation = state.withLock { state -> CheckedContinuation<Void, any Error>? in
      guard let index = state.waiters.firstIndex(where: { $0.id == id }) else {
        state.cancelled.insert(id)
        return nil
      }
      return state.waiters.remove(at: index).continuation
    }
    continuation?.resume(throwing: CancellationError())
  }
}
