import Concurrency
import Model

extension MartletError {
  static let guestGone = MartletError(.agentError, "the sandbox stopped running before it had answered")
}

extension OpenWork {
  /// What `body` answers, unless the guest goes before: then nobody waits for its answer.
  ///
  /// - Throws: what `body` throws; `agent_error` when the guest has gone.
  func untilInterrupted<Value: Sendable>(_ body: @escaping @Sendable () async throws -> Value) async throws -> Value {
    let outcome = FirstOutcome<Value>()
    // A task of its own, because a call to a guest that is gone ends when it likes.
    let task = Task {
      do {
        outcome.settle(.success(try await body()))
      } catch {
        outcome.settle(.failure(error))
      }
    }
    onInterruption {
      outcome.settle(.failure(MartletError.guestGone))
      task.cancel()
    }
    return try await withTaskCancellationHandler {
      try await outcome.value
    } onCancel: {
      task.cancel()
    }
  }
}

/// A result that somebody waits for; the first one counts.
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

  /// To be asked for once.
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
