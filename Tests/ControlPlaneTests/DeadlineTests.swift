import Model
import Testing

@testable import ControlPlane

@Suite struct DeadlineTests {
  private let late = MartletError(.deadlineExceeded, "late")

  @Test("work that is in time gives its result or its error")
  func inTime() async throws {
    #expect(try await withDeadline(.seconds(5), or: late) { 7 } == 7)
    #expect(
      await code { _ = try await withDeadline(.seconds(5), or: late) { throw MartletError(.notFound, "x") } }
        == .notFound)
  }

  @Test("work that ignores cancellation does not hold its caller")
  func ignoresCancellation() async throws {
    let begin = ContinuousClock.now
    let result = await code {
      try await withDeadline(.milliseconds(50), or: late) {
        await withCheckedContinuation { continuation in
          Task.detached {
            try? await Task.sleep(for: .seconds(60))
            continuation.resume()
          }
        }
      }
    }
    #expect(result == .deadlineExceeded)
    #expect(ContinuousClock.now - begin < .seconds(30))
  }

  @Test("cancelling the caller cancels the work")
  func cancelled() async throws {
    let task = Task { try await withDeadline(.seconds(60), or: late) { try await Task.sleep(for: .seconds(60)) } }
    try await Task.sleep(for: .milliseconds(20))
    task.cancel()
    await #expect(throws: CancellationError.self) { try await task.value }
  }
}
