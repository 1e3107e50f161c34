import Concurrency
import Testing

@Suite(.timeLimit(.minutes(1))) struct AsyncSemaphoreTests {
  @Test("no more tasks than permits are inside at once, and all get their turn")
  func bounds() async throws {
    let semaphore = AsyncSemaphore(permits: 3, maximumWaiters: 100)
    let inside = Locked((now: 0, most: 0, total: 0))
    try await withThrowingTaskGroup { group in
      for _ in 0..<50 {
        group.addTask {
          try await semaphore.withPermit {
            inside.withLock {
              $0.now += 1
              $0.total += 1
              $0.most = max($0.most, $0.now)
            }
            await Task.yield()
            inside.withLock { $0.now -= 1 }
          }
        }
      }
      try await group.waitForAll()
    }
    #expect(inside.withLock { $0.total } == 50)
    #expect(inside.withLock { $0.most } <= 3)
    #expect(semaphore.peak <= 3)
  }

  @Test("tasks get permits in order of arrival")
  func order() async throws {
    let semaphore = AsyncSemaphore(permits: 1, maximumWaiters: 10)
    let order = Locked([Int]())
    try await semaphore.acquire()
    var tasks: [Task<Void, any Error>] = []
    for number in 0..<5 {
      tasks.append(Task { try await semaphore.withPermit { order.withLock { $0.append(number) } } })
      try await Task.sleep(for: .milliseconds(20))
    }
    semaphore.release()
    for task in tasks { try await task.value }
    #expect(order.withLock { $0 } == [0, 1, 2, 3, 4])
  }

  @Test("a task that exceeds the queue gets the given error at once")
  func queueFull() async throws {
    struct Busy: Error {}
    let semaphore = AsyncSemaphore(permits: 1, maximumWaiters: 1, queueFull: Busy())
    try await semaphore.acquire()
    let waiting = Task { try await semaphore.withPermit {} }
    try await Task.sleep(for: .milliseconds(50))
    await #expect(throws: Busy.self) { try await semaphore.acquire() }
    semaphore.release()
    try await waiting.value
    try await semaphore.withPermit {}
  }

  @Test("a cancelled task leaves the queue and takes no permit", arguments: [true, false])
  func cancelled(beforeWaiting: Bool) async throws {
    let semaphore = AsyncSemaphore(permits: 1, maximumWaiters: 1)
    try await semaphore.acquire()
    let waiting = Task {
      if beforeWaiting { while !Task.isCancelled { await Task.yield() } }
      try await semaphore.acquire()
    }
    if !beforeWaiting { try await Task.sleep(for: .milliseconds(50)) }
    waiting.cancel()
    await #expect(throws: CancellationError.self) { try await waiting.value }
    let next = Task { try await semaphore.withPermit {} }
    semaphore.release()
    try await next.value
  }

  @Test("an error of the body returns the permit")
  func throwing() async throws {
    struct Broken: Error {}
    let semaphore = AsyncSemaphore(permits: 1, maximumWaiters: 0)
    await #expect(throws: Broken.self) { try await semaphore.withPermit { throw Broken() } }
    try await semaphore.withPermit {}
  }
}
