package import NIOCore

/// Copies what a process does to all its subscribers, each with a bounded queue of its own. Pure bookkeeping: `Waiter`
/// is what the shell resumes.
///
/// Back-pressure: while any queue is full the process's outputs are not read (`isBlocked`), so the process itself waits
/// and no byte is lost. A subscriber that has taken nothing for `stallLimit` while its queue is full must not hold up
/// the others: when there are others, it is dropped with an error (`Outcome.stalled`); when it is alone, the process
/// waits for it. With no subscriber at all, output is discarded: a process does not depend on anybody listening.
package struct OutputBroadcast<Waiter> {
  package typealias SubscriptionID = UInt64

  /// What a subscriber's call for the next update comes to.
  package enum Outcome: Equatable {
    case update(ProcessUpdate)
    /// The end was delivered before, or the subscription is cancelled.
    case finished
    /// Dropped for being too slow.
    case stalled
  }

  package struct Wakeup {
    package let waiter: Waiter
    package let outcome: Outcome
  }

  private struct Subscriber {
    var queue = CircularBuffer<ProcessUpdate>()
    var queuedBytes = 0
    var waiter: Waiter?
    var isStalled = false
    var lastTakenAt: NIODeadline

    var isFull: Bool { queuedBytes >= OutputBroadcast.queueLimitBytes }
  }

  /// Bytes of output that may wait for one subscriber before the process is made to wait.
  package static var queueLimitBytes: Int { 256 * 1024 }
  /// How long a full queue may stand still while others wait for it.
  package static var stallLimit: TimeAmount { .seconds(30) }
  package static var maximumSubscribers: Int { 128 }

  private var subscribers: [SubscriptionID: Subscriber] = [:]
  private var nextID: SubscriptionID = 1
  private var isFinished = false

  package init() {}

  package var isBlocked: Bool { subscribers.values.contains { $0.isFull } }
  package var subscriberCount: Int { subscribers.count }

  /// Adds a subscriber whose first update is `first`; nil when there are too many.
  package mutating func subscribe(first: [ProcessUpdate], now: NIODeadline) -> SubscriptionID? {
    guard subscribers.count < Self.maximumSubscribers else { return nil }
    defer { nextID += 1 }
    var subscriber = Subscriber(lastTakenAt: now)
    subscriber.queue.append(contentsOf: first)
    subscribers[nextID] = subscriber
    return nextID
  }

  /// Queues an update for everybody; after `finish` nothing is queued any more.
  package mutating func publish(_ update: ProcessUpdate, now: NIODeadline) -> [Wakeup] {
    guard !isFinished else { return [] }
    return subscribers.keys.compactMap { deliver(update, to: $0, now: now) }
  }

  /// Publishes the last update.
  package mutating func finish(with update: ProcessUpdate, now: NIODeadline) -> [Wakeup] {
    let wakeups = publish(update, now: now)
    isFinished = true
    return wakeups
  }

  /// The next update for a subscriber; nil means that `waiter` is kept and comes back in a later `Wakeup`.
  package mutating func next(for id: SubscriptionID, waiter: Waiter, now: NIODeadline) -> Outcome? {
    guard var subscriber = subscribers[id] else { return .finished }
    defer { if subscribers[id] != nil { subscribers[id] = subscriber } }
    if subscriber.isStalled { return .stalled }
    if let update = subscriber.queue.popFirst() {
      subscriber.queuedBytes -= update.outputBytes
      subscriber.lastTakenAt = now
      return .update(update)
    }
    if isFinished { return .finished }
    subscriber.waiter = waiter
    return nil
  }

  /// Removes a subscriber; its waiter, if it has one, is to be told that it is over.
  package mutating func cancel(_ id: SubscriptionID) -> Waiter? {
    subscribers.removeValue(forKey: id)?.waiter
  }

  /// Takes back the waiter of a subscriber that stays.
  package mutating func withdrawWaiter(of id: SubscriptionID) -> Waiter? {
    defer { subscribers[id]?.waiter = nil }
    return subscribers[id]?.waiter
  }

  /// Drops the subscribers that hold up others; to be called when the outputs have been blocked for a while.
  package mutating func dropStalled(now: NIODeadline) {
    guard subscribers.count > 1 else { return }
    for (id, subscriber) in subscribers where subscriber.isFull && now - subscriber.lastTakenAt >= Self.stallLimit {
      // A full queue has no waiter, so nobody has to be woken: the subscriber learns it when it asks again.
      subscribers[id]?.isStalled = true
      subscribers[id]?.queue.removeAll()
      subscribers[id]?.queuedBytes = 0
    }
  }

  /// Sends a keep-alive to a subscriber for whom nothing happened for `interval`.
  /// - Returns: when to ask again (nil: never, the subscriber is gone), and whom to wake.
  package mutating func keepAlive(
    _ id: SubscriptionID, interval: TimeAmount, now: NIODeadline
  ) -> (next: NIODeadline?, wakeup: Wakeup?) {
    guard !isFinished, let subscriber = subscribers[id] else { return (nil, nil) }
    let due = subscriber.lastTakenAt + interval
    guard now >= due, subscriber.queue.isEmpty else { return (Swift.max(due, now + .milliseconds(100)), nil) }
    return (now + interval, deliver(.keepAlive, to: id, now: now))
  }

  private mutating func deliver(_ update: ProcessUpdate, to id: SubscriptionID, now: NIODeadline) -> Wakeup? {
    guard var subscriber = subscribers[id], !subscriber.isStalled else { return nil }
    defer { subscribers[id] = subscriber }
    if let waiter = subscriber.waiter {
      subscriber.waiter = nil
      subscriber.lastTakenAt = now
      return Wakeup(waiter: waiter, outcome: .update(update))
    }
    subscriber.queue.append(update)
    subscriber.queuedBytes += update.outputBytes
    return nil
  }
}
