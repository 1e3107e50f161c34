import Concurrency
import Model

extension MartletError {
  static let guestEnded = MartletError(.agentError, "the sandbox stopped running before it responded")
}

extension OpenWork {
  /// Returns the result of `body`, unless the guest ends before.
  ///
  /// - Throws: the error of `body`; `agent_error` when the guest has ended.
  func untilInterrupted<Value: Sendable>(_ body: @escaping @Sendable () async throws -> Value) async throws -> Value {
    let outcome = FirstOutcome<Value>()
    // An unstructured task: a call to a guest that has ended may not return for a long time.
    let task = Task {
      do {
        outcome.settle(.success(try await body()))
      } catch {
        outcome.settle(.failure(error))
      }
    }
    onInterruption {
      outcome.settle(.failure(MartletError.guestEnded))
      task.cancel()
    }
    return try await withTaskCancellationHandler {
      try await outcome.value
    } onCancel: {
      task.cancel()
    }
  }
}

/// A result that one task waits for; the first result counts.
private final class FirstOutcome<Value: Sendable>: Sendable {
  private enum State {
    case open
    case awaited(CheckedContinuation<Value, any Error>)
    case settled(Result<Value, any Error>)
  }

  private let state = Mutex(State.open)

  func settle(_ result: Result<Value, any Error>) {
    let continuation: CheckedContinuation<Value, any Error>? = state.withLock { state in
      switch state {
      case .open:
        state = .settled(result)
        return nil
      case .awaited(let continuation):
        state = .settled(result)
        return continuation
      case .settled:
        return nil
      }
    }
    continuation?.resume(with: result)
  }

  /// Must be awaited only once.
  var value: Value {
    get async throws {
      try await withCheckedThrowingContinuation { continuation in
        let settled: Result<Value, any Error>? = state.withLock { state in
          if case .settled(let result) = state { return result }
          state = .awaited(continuation)
          return nil
        }
        if let settled { continuation.resume(with: settled) }
      }
    }
  }
}
