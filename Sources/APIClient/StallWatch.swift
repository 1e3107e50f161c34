import Concurrency

/// Cancels a transfer if the network makes no progress for a given time. The transfer as a whole has no time limit.
///
/// Only the time inside `waiting` counts; a slow local file, terminal or pipe is not a stall of the server.
final class StallWatch: Sendable {
  private let waitingSince = Mutex<ContinuousClock.Instant?>(nil)

  /// Marks the start of a wait for the network.
  func begin() {
    let now = ContinuousClock.now
    waitingSince.withLock { $0 = now }
  }

  func end() {
    waitingSince.withLock { $0 = nil }
  }

  func waiting<Result>(
    _ operation: () async throws -> Result, isolation: isolated (any Actor)? = #isolation
  ) async rethrows -> Result {
    begin()
    defer { end() }
    return try await operation()
  }

  private func hasStalled(for limit: Duration) -> Bool {
    waitingSince.withLock { since in since.map { $0.duration(to: .now) > limit } ?? false }
  }

  /// Runs `operation`; cancels it and throws `timed_out` if a wait inside it exceeds `limit`.
  static func run<Result: Sendable>(
    limit: Duration, _ operation: @escaping @Sendable (StallWatch) async throws -> Result
  ) async throws -> Result {
    let watch = StallWatch()
    return try await withThrowingTaskGroup(of: Result?.self) { group in
      group.addTask { try await operation(watch) }
      group.addTask {
        let tick = max(min(limit / 4, .seconds(1)), .milliseconds(10))
        while !watch.hasStalled(for: limit) {
          try await Task.sleep(for: tick)
        }
        throw APIError(.timedOut, "the server made no progress for \(limit.components.seconds) seconds")
      }
      defer { group.cancelAll() }
      while let result = try await group.next() {
        if let result { return result }
      }
      throw CancellationError()
    }
  }
}
