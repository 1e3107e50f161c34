import Concurrency
import Testing

@Suite(.timeLimit(.minutes(1))) struct BoundedQueueTests {
  private struct Broken: Error {}

  @Test("elements arrive in order and complete, and the queue never holds more than its capacity")
  func order() async throws {
    let queue = BoundedQueue<Int>(capacity: 3)
    let progress = Locked((sent: 0, received: 0, most: 0))
    let producer = Task {
      for number in 0..<1_000 {
        try await queue.send(number)
        progress.withLock {
          $0.sent += 1
          $0.most = max($0.most, $0.sent - $0.received)
        }
      }
      queue.finish()
    }
    var received: [Int] = []
    while let number = try await queue.next() {
      progress.withLock { $0.received += 1 }
      received.append(number)
    }
    try await producer.value
    #expect(received == Array(0..<1_000))
    // The consumer counts an element after it has taken it.
    #expect(progress.withLock { $0.most } <= 4)
  }

  @Test("a producer waits while the queue is full")
  func full() async throws {
    let queue = BoundedQueue<Int>(capacity: 2)
    try await queue.send(1)
    try await queue.send(2)
    #expect(queue.isFull)
    let isSent = Locked(false)
    let producer = Task {
      try await queue.send(3)
      isSent.withLock { $0 = true }
    }
    try await Task.sleep(for: .milliseconds(50))
    #expect(!isSent.withLock { $0 })
    #expect(try await queue.next() == 1)
    try await producer.value
    #expect(try await queue.next() == 2)
    #expect(try await queue.next() == 3)
  }

  @Test("queued elements are delivered before the end or the error; later sends throw")
  func finish() async throws {
    let queue = BoundedQueue<Int>(capacity: 2)
    try await queue.send(1)
    #expect(queue.finish(throwing: Broken()))
    #expect(!queue.finish())
    await #expect(throws: CancellationError.self) { try await queue.send(2) }
    #expect(try await queue.next() == 1)
    await #expect(throws: Broken.self) { try await queue.next() }
    let ended = BoundedQueue<Int>(capacity: 1)
    ended.finish()
    #expect(try await ended.next() == nil)
    #expect(try await ended.next() == nil)
  }

  @Test("finish ends a waiting producer and a waiting consumer")
  func finishWhileWaiting() async throws {
    let full = BoundedQueue<Int>(capacity: 1)
    try await full.send(1)
    let producer = Task { try await full.send(2) }
    try await Task.sleep(for: .milliseconds(20))
    full.finish()
    await #expect(throws: CancellationError.self) { try await producer.value }
    let empty = BoundedQueue<Int>(capacity: 1)
    let consumer = Task { try await empty.next() }
    try await Task.sleep(for: .milliseconds(20))
    empty.finish(throwing: Broken())
    await #expect(throws: Broken.self) { try await consumer.value }
  }

  @Test("cancelling a waiting producer or consumer ends its wait and loses no element")
  func cancelled() async throws {
    let queue = BoundedQueue<Int>(capacity: 1)
    let consumer = Task { try await queue.next() }
    try await Task.sleep(for: .milliseconds(20))
    consumer.cancel()
    await #expect(throws: CancellationError.self) { try await consumer.value }
    try await queue.send(1)
    let producer = Task { try await queue.send(2) }
    try await Task.sleep(for: .milliseconds(20))
    producer.cancel()
    await #expect(throws: CancellationError.self) { try await producer.value }
    #expect(try await queue.next() == 1)
    try await queue.send(3)
    #expect(try await queue.next() == 3)
  }

  @Test("after stopWaitingForSpace a send that has to wait throws, one that fits does not")
  func stopWaitingForSpace() async throws {
    let queue = BoundedQueue<Int>(capacity: 1)
    try await queue.send(1)
    let producer = Task { try await queue.send(2) }
    try await Task.sleep(for: .milliseconds(20))
    queue.stopWaitingForSpace()
    await #expect(throws: CancellationError.self) { try await producer.value }
    await #expect(throws: CancellationError.self) { try await queue.send(3) }
    #expect(try await queue.next() == 1)
    try await queue.send(4)
    #expect(try await queue.next() == 4)
  }

  @Test("sendDroppingOldest never waits and keeps the newest elements")
  func dropping() async throws {
    let queue = BoundedQueue<Int>(capacity: 2)
    for number in 0..<5 { queue.sendDroppingOldest(number) }
    #expect(try await queue.next() == 3)
    #expect(try await queue.next() == 4)
    let consumer = Task { try await queue.next() }
    try await Task.sleep(for: .milliseconds(20))
    queue.sendDroppingOldest(9)
    #expect(try await consumer.value == 9)
    queue.finish()
    queue.sendDroppingOldest(10)
    #expect(try await queue.next() == nil)
  }
}
