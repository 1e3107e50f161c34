import Concurrency
import Connect
import NIOCore

/// Runs one handler and cancels it when its deadline passes or its client disconnects.
///
/// The handler runs in its own unstructured task, because the connection's event loop must be able to cancel it. The
/// task inherits task-local values, and its result is always awaited.
final class CallScope: Sendable {
  enum Ending: Sendable {
    case deadlinePassed
    case clientDisconnected
  }

  enum Outcome<Value: Sendable>: Sendable {
    case finished(Result<Value, any Error>)
    /// The handler was cancelled before it finished. Its result is discarded.
    case ended(Ending)
  }

  private struct State {
    var cancel: (@Sendable () -> Void)?
    var ending: Ending?
    var isFinished = false
  }

  private let state = Mutex(State())

  /// Runs `handler`. Returns only after the handler has returned.
  static func run<Value: Sendable>(
    on channel: any Channel, until deadline: ContinuousClock.Instant?, watchingClient: Bool,
    _ handler: @escaping @Sendable () async throws -> Value
  ) async -> Outcome<Value> {
    let scope = CallScope()
    let timer = deadline.map { scope.startTimer(on: channel.eventLoop, deadline: $0) }
    let watch = watchingClient ? DisconnectWatch { scope.end(.clientDisconnected) } : nil
    await watch?.install(on: channel)
    let task = Task(operation: handler)
    scope.setCancel { task.cancel() }
    let result = await withTaskCancellationHandler {
      await task.result
    } onCancel: {
      task.cancel()
    }
    let ending = scope.finish()
    timer?.cancel()
    await watch?.remove(from: channel)
    return ending.map(Outcome.ended) ?? .finished(result)
  }

  private func startTimer(on eventLoop: any EventLoop, deadline: ContinuousClock.Instant) -> Scheduled<Void> {
    let left = max(.zero, deadline - .now)
    return eventLoop.scheduleTask(in: TimeAmount(left)) { self.end(.deadlinePassed) }
  }

  /// Cancels the handler. Only the first call has an effect, and none after the handler has returned.
  private func end(_ ending: Ending) {
    let cancel = state.withLock { state -> (@Sendable () -> Void)? in
      guard state.ending == nil, !state.isFinished else { return nil }
      state.ending = ending
      return state.cancel
    }
    cancel?()
  }

  private func setCancel(_ cancel: @escaping @Sendable () -> Void) {
    let isEnded = state.withLock { state in
      state.cancel = cancel
      return state.ending != nil
    }
    if isEnded { cancel() }
  }

  private func finish() -> Ending? {
    state.withLock { state in
      state.isFinished = true
      state.cancel = nil
      return state.ending
    }
  }
}
