import Concurrency

/// A queue of signals that this process receives. From `init` to `cancel` they do not end the process.
///
/// This is not an `AsyncStream`, because a stream ends for good when a task that waits for it is cancelled, and several
/// tasks wait here one after the other.
final class SignalWatcher: Sendable {
  /// Maximum number of queued signals; the oldest ones are dropped.
  private static let backlog = 16

  private final class Queue: Sendable {
    private struct State {
      var signals: [Int32] = []
      var waiter: CheckedContinuation<Int32?, Never>?
      var isFinished = false
    }

    private let state = Mutex(State())

    func put(_ signal: Int32) {
      let waiter = state.withLock { state in
        guard let waiter = state.waiter else {
          if state.signals.count == SignalWatcher.backlog { state.signals.removeFirst() }
          state.signals.append(signal)
          return nil as CheckedContinuation<Int32?, Never>?
        }
        state.waiter = nil
        return waiter
      }
      waiter?.resume(returning: signal)
    }

    func take() async -> Int32? {
      await withTaskCancellationHandler {
        await withCheckedContinuation { continuation in
          let result: Int32?? = state.withLock { state in
            if Task.isCancelled || state.isFinished { return .some(nil) }
            if !state.signals.isEmpty { return state.signals.removeFirst() }
            precondition(state.waiter == nil, "one caller at a time")
            state.waiter = continuation
            return nil
          }
          if let result { continuation.resume(returning: result) }
        }
      } onCancel: {
        dismiss(finishing: false)
      }
    }

    func dismiss(finishing: Bool) {
      let waiter = state.withLock { state in
        if finishing { state.isFinished = true }
        defer { state.waiter = nil }
        return state.waiter
      }
      waiter?.resume(returning: nil)
    }
  }

  private let queue = Queue()
  /// Nil for a watcher without signals, which returns only injected ones.
  private let registration: Int?

  /// - Throws: `OperatingSystemError` if no descriptors are left.
  init(_ signals: [Int32]) throws {
    let queue = queue
    registration = signals.isEmpty ? nil : try SignalHub.shared.add(signals) { queue.put($0) }
  }

  /// The next signal; nil if the task or the watcher is cancelled. Permits one caller at a time.
  func next() async -> Int32? { await queue.take() }

  /// Adds a signal that the process did not receive; for tests.
  func inject(_ signal: Int32) { queue.put(signal) }

  /// Restores the earlier actions of the signals. Idempotent.
  func cancel() {
    queue.dismiss(finishing: true)
    if let registration { SignalHub.shared.remove(registration) }
  }
}
