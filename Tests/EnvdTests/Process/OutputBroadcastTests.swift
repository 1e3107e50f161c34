import Envd
import FoundationEssentials
import LinuxSystem
import NIOCore
import Testing

/// A class around the broadcast, because expectations cannot call mutating methods.
private final class Broadcast {
  static let queueLimitBytes = OutputBroadcast<Int>.queueLimitBytes
  static let stallLimit = OutputBroadcast<Int>.stallLimit
  static let maximumSubscribers = OutputBroadcast<Int>.maximumSubscribers

  private var value = OutputBroadcast<Int>()

  var isBlocked: Bool { value.isBlocked }

  func subscribe(first: [ProcessUpdate] = [], now: NIODeadline) -> UInt64? { value.subscribe(first: first, now: now) }
  func publish(_ update: ProcessUpdate, now: NIODeadline) -> [OutputBroadcast<Int>.Wakeup] {
    value.publish(update, now: now)
  }
  func finish(with update: ProcessUpdate, now: NIODeadline) { _ = value.finish(with: update, now: now) }
  func next(for id: UInt64, waiter: Int, now: NIODeadline) -> OutputBroadcast<Int>.Outcome? {
    value.next(for: id, waiter: waiter, now: now)
  }
  func cancel(_ id: UInt64) -> Int? { value.cancel(id) }
  func withdrawWaiter(of id: UInt64) -> Int? { value.withdrawWaiter(of: id) }
  func dropStalled(now: NIODeadline) { value.dropStalled(now: now) }
  func keepAlive(
    _ id: UInt64, interval: TimeAmount, now: NIODeadline
  ) -> (next: NIODeadline?, wakeup: OutputBroadcast<Int>.Wakeup?) {
    value.keepAlive(id, interval: interval, now: now)
  }
}

@Suite struct OutputBroadcastTests {
  private let start = NIODeadline.uptimeNanoseconds(1_000_000_000_000)
  private let full = ProcessUpdate.output(.standardOutput, Data(count: Broadcast.queueLimitBytes))
  private let end = ProcessUpdate.ended(ProcessEnd(status: .exited(0)))

  private func chunk(_ text: String) -> ProcessUpdate { .output(.standardOutput, Data(text.utf8)) }

  @Test("every subscriber gets every update in order, whether it waits or not")
  func copies() throws {
    let broadcast = Broadcast()
    let first = try #require(broadcast.subscribe(first: [], now: start))
    let second = try #require(broadcast.subscribe(first: [.started(pid: 7)], now: start))
    #expect(broadcast.next(for: first, waiter: 1, now: start) == nil)
    let wakeups = broadcast.publish(chunk("a"), now: start)
    #expect(wakeups.map(\.waiter) == [1])
    #expect(wakeups.first?.outcome == .update(chunk("a")))
    broadcast.finish(with: end, now: start)
    #expect(broadcast.next(for: first, waiter: 1, now: start) == .update(end))
    #expect(broadcast.next(for: first, waiter: 1, now: start) == .finished)
    for expected in [.started(pid: 7), chunk("a"), end] {
      #expect(broadcast.next(for: second, waiter: 2, now: start) == .update(expected))
    }
    #expect(broadcast.next(for: second, waiter: 2, now: start) == .finished)
  }

  @Test("a full queue blocks the outputs until its subscriber takes from it")
  func backPressure() throws {
    let broadcast = Broadcast()
    let id = try #require(broadcast.subscribe(first: [], now: start))
    _ = broadcast.publish(full, now: start)
    #expect(broadcast.isBlocked)
    #expect(broadcast.next(for: id, waiter: 1, now: start) == .update(full))
    #expect(!broadcast.isBlocked)
  }

  @Test("without subscribers nothing is kept and nothing blocks")
  func noSubscribers() {
    let broadcast = Broadcast()
    #expect(broadcast.publish(full, now: start).isEmpty)
    #expect(!broadcast.isBlocked)
  }

  @Test("a stalled subscriber is dropped with an error only when it blocks others")
  func stall() throws {
    let broadcast = Broadcast()
    let slow = try #require(broadcast.subscribe(first: [], now: start))
    _ = broadcast.publish(full, now: start)
    let later = start + Broadcast.stallLimit
    broadcast.dropStalled(now: later)
    #expect(broadcast.isBlocked, "alone, the process waits for it")

    let other = try #require(broadcast.subscribe(first: [], now: later))
    broadcast.dropStalled(now: later)
    #expect(!broadcast.isBlocked)
    #expect(broadcast.next(for: slow, waiter: 1, now: later) == .stalled)
    _ = broadcast.publish(chunk("b"), now: later)
    #expect(broadcast.next(for: other, waiter: 2, now: later) == .update(chunk("b")))
  }

  @Test("a subscriber that takes updates slowly is not stalled, even if its queue is full")
  func slowIsNotStalled() throws {
    let broadcast = Broadcast()
    let slow = try #require(broadcast.subscribe(first: [], now: start))
    _ = broadcast.subscribe(first: [], now: start)
    _ = broadcast.publish(full, now: start)
    _ = broadcast.publish(full, now: start)
    let later = start + Broadcast.stallLimit
    _ = broadcast.next(for: slow, waiter: 1, now: later - .seconds(1))
    broadcast.dropStalled(now: later)
    #expect(broadcast.next(for: slow, waiter: 1, now: later) == .update(full))
  }

  @Test("cancelling returns the waiter and unblocks the outputs")
  func cancel() throws {
    let broadcast = Broadcast()
    let id = try #require(broadcast.subscribe(first: [], now: start))
    #expect(broadcast.next(for: id, waiter: 5, now: start) == nil)
    #expect(broadcast.cancel(id) == 5)
    #expect(broadcast.cancel(id) == nil)
    #expect(broadcast.next(for: id, waiter: 6, now: start) == .finished)

    let blocking = try #require(broadcast.subscribe(first: [], now: start))
    _ = broadcast.publish(full, now: start)
    _ = broadcast.cancel(blocking)
    #expect(!broadcast.isBlocked)
  }

  @Test("a withdrawn waiter is not resumed, and its subscription continues")
  func withdraw() throws {
    let broadcast = Broadcast()
    let id = try #require(broadcast.subscribe(first: [], now: start))
    #expect(broadcast.next(for: id, waiter: 5, now: start) == nil)
    #expect(broadcast.withdrawWaiter(of: id) == 5)
    #expect(broadcast.publish(chunk("c"), now: start).isEmpty)
    #expect(broadcast.next(for: id, waiter: 6, now: start) == .update(chunk("c")))
  }

  @Test("a keep-alive is sent after an interval without updates, and not earlier")
  func keepAlive() throws {
    let broadcast = Broadcast()
    let id = try #require(broadcast.subscribe(first: [], now: start))
    #expect(broadcast.next(for: id, waiter: 1, now: start) == nil)
    let interval = TimeAmount.seconds(50)
    let early = broadcast.keepAlive(id, interval: interval, now: start + .seconds(49))
    #expect(early.wakeup == nil)
    #expect(early.next == start + interval)
    let due = broadcast.keepAlive(id, interval: interval, now: start + interval)
    #expect(due.wakeup?.outcome == .update(.keepAlive))
    #expect(due.next == start + .seconds(100))
    _ = broadcast.cancel(id)
    #expect(broadcast.keepAlive(id, interval: interval, now: start + .seconds(200)).next == nil)
  }

  @Test("the number of subscribers is bounded")
  func bounded() {
    let broadcast = Broadcast()
    for _ in 0..<Broadcast.maximumSubscribers { #expect(broadcast.subscribe(first: [], now: start) != nil) }
    #expect(broadcast.subscribe(first: [], now: start) == nil)
  }
}
