/// The time limit of an operation has passed.
package struct DeadlineExceeded: Error, Equatable {
  package init() {}
}

/// Bounds the work: runs `operation` for at most `limit`, cancels it then, and throws once it has returned.
///
/// An operation that ignores cancellation delays the caller. Use this where the operation must not continue behind the
/// caller's back, and `waitAtMost` where the caller must not be delayed.
/// - Parameters:
///   - limit: nil means no limit.
///   - failure: thrown when the limit has passed.
/// - Throws: `failure`, or the error of `operation`.
package func withDeadline<Value: Sendable>(
  _ limit: Duration?, throwing failure: any Error = DeadlineExceeded(),
  _ operation: @escaping @Sendable () async throws -> Value
) async throws -> Value {
  guard let limit else { return try await operation() }
  return try await withThrowingTaskGroup(of: Value?.self) { group in
    group.addTask { try await operation() }
    group.addTask {
      try await Task.sleep(for: limit)
      return nil
    }
    defer { group.cancelAll() }
    guard let first = try await group.next(), let value = first else { throw failure }
    return value
  }
}

/// Bounds the wait: waits for `operation` no longer than `limit`.
///
/// When the limit has passed or the caller is cancelled, the operation is cancelled and left behind, so a peer that
/// ignores cancellation cannot delay the caller. The operation may still have an effect later.
/// - Throws: `failure` when the limit has passed, `CancellationError`, or the error of `operation`.
package func waitAtMost<Value: Sendable>(
  _ limit: Duration, throwing failure: any Error = DeadlineExceeded(),
  for operation: @escaping @Sendable () async throws -> Value
) async throws -> Value {
  let outcome = FirstResult<Value>()
  // Unstructured: a task group would wait for the operation.
  let work = Task {
    do {
      outcome.settle(.success(try await operation()))
    } catch {
      outcome.settle(.failure(error))
    }
  }
  let timer = Task {
    try? await Task.sleep(for: limit)
    outcome.settle(.failure(failure))
  }
  defer {
    timer.cancel()
    work.cancel()
  }
  return try await withTaskCancellationHandler {
    try await outcome.value
  } onCancel: {
    outcome.settle(.failure(CancellationError()))
  }
}

/// A result that tasks wait for and that several sources may provide. The first one counts.
package final class FirstResult<Value: Sendable>: Sendable {
  private struct State {
    var result: Result<Value, any Error>?
    var waiters: [CheckedContinuation<Value, any Error>] = []
  }

  private let state = Mutex(State())

  package init() {}

  /// Provides the result. Calls after the first one have no effect.
  package func settle(_ result: Result<Value, any Error>) {
    let waiters = state.withLock { state -> [CheckedContinuation<Value, any Error>] in
      guard state.result == nil else { return [] }
      state.result = result
      defer { state.waiters = [] }
      return state.waiters
    }
    for waiter in waiters { waiter.resume(with: result) }
  }

  /// Waits for the result. Cancelling the waiting task does not end the wait: settle with an error for that.
  package var value: Value {
    get async throws {
      try await withCheckedThrowingContinuation { continuation in
        let result = state.withLock { state in
          if state.result == nil { state.waiters.append(continuation) }
          return state.result
        }
        if let result { continuation.resume(with: result) }
      }
    }
  }
}
