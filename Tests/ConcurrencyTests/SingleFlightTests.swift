import Concurrency
import Testing

@Suite(.timeLimit(.minutes(1))) struct SingleFlightTests {
  @Test("callers of one key share one operation; other keys have their own")
  func shared() async throws {
    let flights = SingleFlight<String, Int>()
    let started = Locked(0)
    let release = FirstResult<Void>()
    let operation: @Sendable () async throws -> Int = {
      let number = started.withLock {
        $0 += 1
        return $0
      }
      if number == 1 { try await release.value }
      return number
    }
    let callers = (0..<10).map { _ in Task { try await flights.run("a", operation) } }
    while started.withLock({ $0 }) == 0 { try await Task.sleep(for: .milliseconds(1)) }
    #expect(try await flights.run("b", operation) == 2)
    try await Task.sleep(for: .milliseconds(50))
    release.settle(.success(()))
    for caller in callers { #expect(try await caller.value == 1) }
    #expect(flights.count == 0)
  }

  @Test("after its end, with a result or an error, the next caller starts a new operation")
  func again() async throws {
    struct Broken: Error {}
    let flights = SingleFlight<Int, Int>()
    await #expect(throws: Broken.self) { try await flights.run(1) { throw Broken() } }
    #expect(try await flights.run(1) { 5 } == 5)
    #expect(try await flights.run(1) { 6 } == 6)
  }

  @Test("a cancelled caller does not cancel the operation of the others")
  func cancelledCaller() async throws {
    let flights = SingleFlight<Int, Bool>()
    let release = FirstResult<Void>()
    let operation: @Sendable () async throws -> Bool = {
      try await release.value
      return Task.isCancelled
    }
    let first = Task { try await flights.run(1, operation) }
    while flights.count == 0 { try await Task.sleep(for: .milliseconds(1)) }
    let second = Task { try await flights.run(1, operation) }
    first.cancel()
    release.settle(.success(()))
    #expect(try await second.value == false)
  }
}
