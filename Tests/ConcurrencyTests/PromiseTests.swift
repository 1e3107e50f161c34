import Concurrency
import Testing

@Suite struct PromiseTests {
  @Test("every task that waits gets the value, and so does one that asks later")
  func value() async throws {
    let promise = Promise<Int>()
    try await withThrowingTaskGroup(of: Int.self) { group in
      for _ in 0..<8 { group.addTask { try await promise.value() } }
      while promise.waiterCount < 8 { await Task.yield() }
      #expect(promise.set(7))
      for try await value in group { #expect(value == 7) }
    }
    #expect(!promise.set(8))
    #expect(try await promise.value() == 7)
    #expect(promise.waiterCount == 0)
  }

  @Test("a cancelled wait ends at once and leaves nothing behind")
  func cancellation() async throws {
    let promise = Promise<Int>()
    for _ in 0..<1_000 {
      let wait = Task { try await promise.value() }
      wait.cancel()
      await #expect(throws: CancellationError.self) { try await wait.value }
    }
    let late = Task { try await promise.value() }
    while promise.waiterCount == 0 { await Task.yield() }
    late.cancel()
    await #expect(throws: CancellationError.self) { try await late.value }
    #expect(promise.waiterCount == 0)
  }
}
