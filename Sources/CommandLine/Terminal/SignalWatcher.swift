import Concurrency

/// Signals of this process, one after the other. From `init` to `cancel` they no longer end it.
///
/// Not an `AsyncStream`: that ends for good when one task that waits for it is cancelled, and here one step after the
/// other waits.
final class SignalWatcher: Sendable {
  /// Signals beyond this many that nobody has looked at are dropped, oldest first.
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
          let answer: Int32?? = state.withLock { state in
            if Task.isCancelled || state.isFinished { return .some(nil) }
            if !state.signals.isEmpty { return state.signals.removeFirst() }
            precondition(state.waiter == nil, "one caller at a time")
            state.waiter = continuation
            return nil
          }
          if let answer { continuation.resume(returning: answer) }
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
  /// Nil for a watcher without signals, which gives only what is injected.
  private let registration: Int?

  /// - Throws: `OperatingSystemError` when there are no descriptors left.
  init(_ signals: [Int32]) throws {
    let queue = queue
    registration = signals.isEmpty ? nil : try SignalHub.shared.add(signals) { queue.put($0) }
  }

  /// The next signal; nil when the task is cancelled or the watcher is. One caller at a time.
  func next() async -> Int32? { await queue.take() }

  /// For tests, and for whoever decides on behalf of a signal.
  func inject(_ signal: Int32) { queue.put(signal) }

  /// Gives the signals their earlier meaning back. Idempotent.
  func cancel() {
    queue.dismiss(finishing: true)
    if let registration { SignalHub.shared.remove(registration) }
  }
}
