import Concurrency
import Model

/// Runs `work`, but waits for it no longer than `duration`.
///
/// When time is up the work is cancelled and left behind, so that a peer that ignores cancellation cannot hold its
/// caller. Cancelling the caller cancels the work and waits no longer either.
/// - Throws: what `work` throws, `failure` when time is up, `CancellationError`.
func withDeadline<Value: Sendable>(
  _ duration: Duration, or failure: MartletError, _ work: @escaping @Sendable () async throws -> Value
) async throws -> Value {
  let race = Race<Value>()
  return try await withTaskCancellationHandler {
    try await withCheckedThrowingContinuation { continuation in
      race.start(continuation)
      // Unstructured on purpose: a task group would wait for the loser.
      race.own(
        Task {
          do {
            race.finish(.success(try await work()))
          } catch {
            race.finish(.failure(error))
          }
        })
      race.own(
        Task {
          try? await Task.sleep(for: duration)
          race.finish(.failure(failure))
        })
    }
  } onCancel: {
    race.finish(.failure(CancellationError()))
  }
}

/// The first result wins; the other contestants are cancelled.
private final class Race<Value: Sendable>: Sendable {
  private struct State {
    var continuation: CheckedContinuation<Value, any Error>?
    var contestants: [Task<Void, Never>] = []
    var early: Result<Value, any Error>?
    var isOver = false
  }

  private let state = Mutex(State())

  func start(_ continuation: CheckedContinuation<Value, any Error>) {
    let early = state.withLock { state -> Result<Value, any Error>? in
      if state.early == nil { state.continuation = continuation }
      return state.early
    }
    if let early { continuation.resume(with: early) }
  }

  func own(_ task: Task<Void, Never>) {
    let isOver = state.withLock { state in
      if !state.isOver { state.contestants.append(task) }
      return state.isOver
    }
    if isOver { task.cancel() }
  }

  func finish(_ result: Result<Value, any Error>) {
    let (continuation, contestants) = state.withLock {
      state -> (CheckedContinuation<Value, any Error>?, [Task<Void, Never>]) in
      guard !state.isOver else { return (nil, []) }
      state.isOver = true
      if state.continuation == nil { state.early = result }
      defer {
        state.continuation = nil
        state.contestants = []
      }
      return (state.continuation, state.contestants)
    }
    continuation?.resume(with: result)
    for contestant in contestants { contestant.cancel() }
  }
}
