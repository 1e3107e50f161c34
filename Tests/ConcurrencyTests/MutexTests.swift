import Concurrency
import Testing

@Suite struct MutexTests {
  private static let tasks = 64
  private static let rounds = 2_000

  @Test("only one task at a time accesses the value, on any threads")
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

  @Test("an error of the body is rethrown, and the lock is released")
  func throwing() {
    struct Refusal: Error, Equatable {}
    let mutex = Mutex(1)
    #expect(throws: Refusal()) { try mutex.withLock { _ in throw Refusal() } }
    #expect(mutex.withLock { $0 } == 1)
  }

  @Test("the value is released with its mutex")
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
