import Concurrency
import Testing

@Suite struct MutexTests {
  private static let tasks = 64
  private static let rounds = 2_000

  @Test("one task at a time sees the value, whatever threads they are on")
  func exclusion() async {
    final class Count: Sendable { let value = Mutex(0) }
    let count = Count()
    await withTaskGroup { group in
      for _ in 0..<Self.tasks {
        group.addTask {
          for _ in 0..<Self.rounds {
            count.value.withLock { $0 += 1 }
            await Task.yield()
            count.value.withLock { $0 += 1 }
          }
        }
      }
    }
    #expect(count.value.withLock { $0 } == 2 * Self.tasks * Self.rounds)
  }

  @Test("what a body throws comes out, and the lock is free again")
  func throwing() {
    struct Refusal: Error, Equatable {}
    let mutex = Mutex(1)
    #expect(throws: Refusal()) { try mutex.withLock { _ in throw Refusal() } }
    #expect(mutex.withLock { $0 } == 1)
  }

  @Test("the value goes with its lock")
  func release() {
    final class Thing: Sendable {}
    weak var thing: Thing?
    do {
      let mutex = Mutex(Thing())
      thing = mutex.withLock { $0 }
      #expect(thing != nil)
    }
    #expect(thing == nil)
  }
}
