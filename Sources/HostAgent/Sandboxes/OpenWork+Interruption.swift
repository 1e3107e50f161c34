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
    let outcome = FirstResult<Value>()
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
