import Concurrency

/// A queue of signals that this process receives. From `init` to `cancel` they do not end the process.
///
/// This is not an `AsyncStream`, because a stream ends for good when a task that waits for it is cancelled, and several
/// tasks wait here one after the other.
final class SignalWatcher: Sendable {
  /// Maximum number of queued signals; the oldest ones are dropped.
  private static let backlog = 16

  private let queue = BoundedQueue<Int32>(capacity: backlog)
  /// nil for a watcher without signals, which returns only injected ones.
  private let registration: Int?

  /// - Throws: `OperatingSystemError` if no descriptors are left.
  init(_ signals: [Int32]) throws {
    let queue = queue
    registration = signals.isEmpty ? nil : try SignalHub.shared.add(signals) { queue.sendDroppingOldest($0) }
  }

  /// The next signal; nil if the task or the watcher is cancelled. Permits one caller at a time.
  func next() async -> Int32? {
    guard !Task.isCancelled else { return nil }
    return try? await queue.next()
  }

  /// Adds a signal that the process did not receive; for tests.
  func inject(_ signal: Int32) { queue.sendDroppingOldest(signal) }

  /// Restores the earlier actions of the signals. Idempotent.
  func cancel() {
    queue.finish()
    if let registration { SignalHub.shared.remove(registration) }
  }
}
