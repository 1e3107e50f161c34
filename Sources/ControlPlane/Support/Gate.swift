import Concurrency
package import Model

/// Lets a few in at once and a few more wait; the rest are turned away (L-67).
package final class Gate: Sendable {
  private struct State {
    var inside = 0
    var peak = 0
    var next = 0
    /// In order of arrival.
    var waiting: [(number: Int, continuation: CheckedContinuation<Void, any Error>)] = []
    /// Cancelled before they could wait.
    var cancelled: Set<Int> = []
  }

  private let concurrent: Int
  private let maximumWaiting: Int
  private let refusal: MartletError
  private let state = Mutex(State())

  /// - Parameter refusal: what those hear who find no room to wait.
  package init(concurrent: Int = 2, maximumWaiting: Int = 64, refusal: MartletError = Gate.tooManyLogins) {
    self.concurrent = concurrent
    self.maximumWaiting = maximumWaiting
    self.refusal = refusal
  }

  package static var tooManyLogins: MartletError {
    MartletError(.rateLimited, "too many people log in at the moment; try again", retryAfterSeconds: 2)
  }

  /// Runs `work` when it is its turn.
  /// - Throws: what `enter` and `work` throw.
  func run<Value: Sendable>(_ work: () async throws -> Value) async throws -> Value {
    try await enter()
    defer { leave() }
    return try await work()
  }

  /// The most that were ever inside at once.
  package var peak: Int { state.withLock { $0.peak } }

  /// Returns when the caller is in; it must call `leave` then.
  /// - Throws: `rate_limited` when the queue is full, `CancellationError`.
  func enter() async throws {
    let number = state.withLock { state in
      state.next += 1
      return state.next
    }
    defer { state.withLock { _ = $0.cancelled.remove(number) } }
    try await withTaskCancellationHandler {
      try await withCheckedThrowingContinuation { continuation in
        let result = state.withLock { admit(number, continuation, &$0) }
        if let result { continuation.resume(with: result) }
      }
    } onCancel: {
      cancel(number)
    }
  }

  func leave() {
    let next = state.withLock { state -> CheckedContinuation<Void, any Error>? in
      guard !state.waiting.isEmpty else {
        state.inside -= 1
        return nil
      }
      return state.waiting.removeFirst().continuation
    }
    next?.resume()
  }

  /// - Returns: nil when the caller waits.
  private func admit(
    _ number: Int, _ continuation: CheckedContinuation<Void, any Error>, _ state: inout State
  ) -> Result<Void, any Error>? {
    guard !state.cancelled.contains(number) else { return .failure(CancellationError()) }
    if state.inside < concurrent {
      state.inside += 1
      state.peak = max(state.peak, state.inside)
      return .success(())
    }
    guard state.waiting.count < maximumWaiting else {
      return .failure(refusal)
    }
    state.waiting.append((number, continuation))
    return nil
  }

  private func cancel(_ number: Int) {
    let continuation = state.withLock { state -> CheckedContinuation<Void, any Error>? in
      guard let index = state.waiting.firstIndex(where: { $0.number == number }) else {
        state.cancelled.insert(number)
        return nil
      }
      return state.waiting.remove(at: index).continuation
    }
    continuation?.resume(throwing: CancellationError())
  }
}
