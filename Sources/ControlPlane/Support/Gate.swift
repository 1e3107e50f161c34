import Concurrency
package import Model

/// Admits a bounded number of concurrent callers and a bounded queue; further callers are refused.
package final class Gate: Sendable {
  private struct State {
    var inside = 0
    var peak = 0
    var next = 0
    /// In order of arrival.
    var waiting: [(number: Int, continuation: CheckedContinuation<Void, any Error>)] = []
    /// Calls that were cancelled before they entered the queue.
    var cancelled: Set<Int> = []
  }

  private let concurrent: Int
  private let maximumWaiting: Int
  private let refusal: MartletError
  private let state = Mutex(State())

  /// - Parameter refusal: the error for callers that do not fit into the queue.
  package init(concurrent: Int = 2, maximumWaiting: Int = 64, refusal: MartletError = Gate.tooManyLogins) {
    self.concurrent = concurrent
    self.maximumWaiting = maximumWaiting
    self.refusal = refusal
  }

  package static var tooManyLogins: MartletError {
    MartletError(.rateLimited, "too many people log in at the moment; try again", retryAfterSeconds: 2)
  }

  /// Runs `work` when the caller is admitted.
  /// - Throws: what `enter` and `work` throw.
  func run<Value: Sendable>(_ work: () async throws -> Value) async throws -> Value {
    try await enter()
    defer { leave() }
    return try await work()
  }

  /// The maximum number of concurrently admitted callers so far.
  package var peak: Int { state.withLock { $0.peak } }

  /// Waits until the caller is admitted, which must then call `leave`.
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

  /// - Returns: nil when the caller must wait.
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
