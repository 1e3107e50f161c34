import Concurrency
import Testing

@Suite(.timeLimit(.minutes(1))) struct DeadlineTests {
  private struct Late: Error {}
  private struct Broken: Error {}

  /// Ignores cancellation until `result` is settled.
  private static func stubborn(_ result: FirstResult<Void>) async throws {
    try await result.value
  }

  @Test("an operation within its limit gives its result or its error")
  func inTime() async throws {
    #expect(try await withDeadline(.seconds(30)) { 7 } == 7)
    #expect(try await withDeadline(nil) { 7 } == 7)
    #expect(try await waitAtMost(.seconds(30)) { 7 } == 7)
    await #expect(throws: Broken.self) { try await withDeadline(.seconds(30)) { throw Broken() } }
    await #expect(throws: Broken.self) { try await waitAtMost(.seconds(30)) { throw Broken() } }
  }

  @Test("the error after the limit is the given one, and DeadlineExceeded by default")
  func late() async throws {
    let forever: @Sendable () async throws -> Void = { try await Task.sleep(for: .seconds(600)) }
    await #expect(throws: DeadlineExceeded()) { try await withDeadline(.milliseconds(20), forever) }
    await #expect(throws: DeadlineExceeded()) { try await waitAtMost(.milliseconds(20), for: forever) }
    await #expect(throws: Late.self) { try await withDeadline(.milliseconds(20), throwing: Late(), forever) }
    await #expect(throws: Late.self) { try await waitAtMost(.milliseconds(20), throwing: Late(), for: forever) }
  }

  @Test("withDeadline returns only after its operation has returned")
  func boundsWork() async throws {
    let release = FirstResult<Void>()
    let returned = FirstResult<Void>()
    let working = Task {
      defer { returned.settle(.success(())) }
      try await withDeadline(.milliseconds(20)) { try await Self.stubborn(release) }
    }
    await #expect(throws: DeadlineExceeded()) {
      try await waitAtMost(.milliseconds(300)) { try await returned.value }
    }
    release.settle(.success(()))
    try await returned.value
    await #expect(throws: DeadlineExceeded()) { try await working.value }
  }

  @Test("waitAtMost returns at its limit although its operation ignores cancellation")
  func boundsWait() async throws {
    let release = FirstResult<Void>()
    defer { release.settle(.success(())) }
    let start = ContinuousClock.now
    await #expect(throws: DeadlineExceeded()) {
      try await waitAtMost(.milliseconds(50)) { try await Self.stubborn(release) }
    }
    #expect(ContinuousClock.now - start < .seconds(30))
  }

  @Test("at the limit the operation is cancelled", arguments: [false, true])
  func cancelsWork(waitOnly: Bool) async throws {
    let cancelled = FirstResult<Bool>()
    let operation: @Sendable () async throws -> Void = {
      try? await Task.sleep(for: .seconds(600))
      cancelled.settle(.success(Task.isCancelled))
    }
    if waitOnly {
      try? await waitAtMost(.milliseconds(20), for: operation)
    } else {
      try? await withDeadline(.milliseconds(20), operation)
    }
    #expect(try await cancelled.value)
  }

  @Test("cancelling the caller cancels the operation; waitAtMost does not wait for it")
  func cancelledCaller() async throws {
    let release = FirstResult<Void>()
    defer { release.settle(.success(())) }
    let waiting = Task { try await waitAtMost(.seconds(600)) { try await Self.stubborn(release) } }
    waiting.cancel()
    await #expect(throws: CancellationError.self) { try await waiting.value }
    let working = Task { try await withDeadline(.seconds(600)) { try await Task.sleep(for: .seconds(600)) } }
    working.cancel()
    await #expect(throws: CancellationError.self) { try await working.value }
  }

  @Test("the first result counts, whether it comes before or after the wait begins")
  func firstResult() async throws {
    let early = FirstResult<Int>()
    early.settle(.success(1))
    early.settle(.success(2))
    #expect(try await early.value == 1)
    let late = FirstResult<Int>()
    let waiting = [Task { try await late.value }, Task { try await late.value }]
    try await Task.sleep(for: .milliseconds(20))
    late.settle(.failure(Broken()))
    late.settle(.success(2))
    for task in waiting { await #expect(throws: Broken.self) { try await task.value } }
  }
}
