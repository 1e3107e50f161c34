import Concurrency
import Connect
import HummingbirdCore

/// Holds the head of a streamed answer back until its first frame is there, and the frame until the head has gone out.
///
/// Some HTTP clients (hyper, and with it the E2B SDK) stop sending a request's body as soon as they have seen the head
/// of the answer. A head that leaves at once then cuts requests short: measured, one in twenty calls arrived empty, and
/// streamed input would be lost without an error. No handler writes before it has read what it needs, so its first
/// frame is the moment.
///
/// Unchecked, because Hummingbird's writer does not say that it is `Sendable`. Hummingbird's root writer is a value
/// without mutable state around NIO's thread-safe outbound writer; every caller works on a copy of its own.
final class HeadGate: @unchecked Sendable {
  private struct State {
    var hasFrame = false
    var isAbandoned = false
    var writer: (any ResponseBodyWriter)?
    var headWaiter: CheckedContinuation<Void, Never>?
    var writeWaiters: [CheckedContinuation<Void, Never>] = []

    var isSettled: Bool { writer != nil || isAbandoned }
  }

  /// What the answer holds: opens the gate, or fails those who wait when the answer is dropped without having been
  /// written.
  final class Key: Sendable {
    private let gate: HeadGate

    init(_ gate: HeadGate) {
      self.gate = gate
    }

    func open(_ writer: any ResponseBodyWriter) {
      gate.settle { $0.writer = writer }
    }

    deinit {
      gate.settle { $0.isAbandoned = true }
    }
  }

  private let lock = Mutex(())
  private var state = State()

  /// Returns once the head may go out.
  func waitForFrame() async {
    await withCheckedContinuation { continuation in
      let hasFrame = lock.withLock { _ in
        if !state.hasFrame { state.headWaiter = continuation }
        return state.hasFrame
      }
      if hasFrame { continuation.resume() }
    }
  }

  /// Lets the head go. Idempotent.
  func releaseHead() {
    let waiter = lock.withLock { _ in
      state.hasFrame = true
      defer { state.headWaiter = nil }
      return state.headWaiter
    }
    waiter?.resume()
  }

  /// Lets the head go and returns the connection's writer. It comes, or the answer is dropped, soon after the head was
  /// let go.
  /// - Throws: `CancellationError` when the answer was dropped.
  func writer() async throws -> any ResponseBodyWriter {
    releaseHead()
    if !lock.withLock({ _ in state.isSettled }) { await waitUntilSettled() }
    guard let writer = lock.withLock({ _ in state.writer }) else { throw CancellationError() }
    return writer
  }

  private func waitUntilSettled() async {
    await withCheckedContinuation { continuation in
      let isSettled = lock.withLock { _ in
        if !state.isSettled { state.writeWaiters.append(continuation) }
        return state.isSettled
      }
      if isSettled { continuation.resume() }
    }
  }

  private func settle(_ change: (inout State) -> Void) {
    let waiters = lock.withLock { _ in
      change(&state)
      defer { state.writeWaiters = [] }
      return state.writeWaiters
    }
    for waiter in waiters { waiter.resume() }
  }
}
