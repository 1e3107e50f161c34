package import FoundationEssentials
package import LinuxSystem
package import NIOCore

/// The output of a process from which bytes come.
package enum OutputChannel: Sendable, Hashable, CaseIterable {
  case standardOutput
  case standardError
  case terminal
}

/// How a process ended.
package struct ProcessEnd: Sendable, Equatable {
  package var status: ExitStatus
  /// The agent killed the process because its time-out had passed.
  package var isTimeout: Bool

  package init(status: ExitStatus, isTimeout: Bool = false) {
    self.status = status
    self.isTimeout = isTimeout
  }
}

/// One update for the subscribers of a process.
package enum ProcessUpdate: Sendable, Equatable {
  case started(pid: UInt32)
  case output(OutputChannel, Data)
  case ended(ProcessEnd)
  /// Nothing has happened for the subscriber's keep-alive interval.
  case keepAlive

  var outputBytes: Int {
    guard case .output(_, let bytes) = self else { return 0 }
    return bytes.count
  }
}

/// Copies the updates of a process to all its subscribers, each with a bounded queue. A synchronous state machine: the
/// caller resumes the `Waiter`s that it returns.
///
/// Back-pressure: while any queue is full, the process's outputs are not read (`isBlocked`), so the process waits and
/// no byte is lost. A subscriber that has taken nothing for `stallLimit` while its queue is full must not block the
/// others: if there are others, it is dropped with an error (`Outcome.stalled`); if it is alone, the process waits for
/// it. Without subscribers, output is discarded: a process does not depend on clients that read.
package struct OutputBroadcast<Waiter> {
  package typealias SubscriptionID = UInt64

  /// The result of a subscriber's call for the next update.
  package enum Outcome: Equatable {
    case update(ProcessUpdate)
    /// The end was delivered already, or the subscription was cancelled.
    case finished
    /// The subscriber was dropped because it was too slow.
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

  /// Bytes of output that may be queued for one subscriber before the process has to wait.
  package static var queueLimitBytes: Int { 256 * 1024 }
  /// How long a subscriber with a full queue may block others.
  package static var stallLimit: TimeAmount { .seconds(30) }
  package static var maximumSubscribers: Int { 128 }

  private var subscribers: [SubscriptionID: Subscriber] = [:]
  private var nextID: SubscriptionID = 1
  private var isFinished = false

  package init() {}

  package var isBlocked: Bool { subscribers.values.contains { $0.isFull } }
  package var subscriberCount: Int { subscribers.count }

  /// Adds a subscriber whose first updates are `first`; nil when there are too many.
  package mutating func subscribe(first: [ProcessUpdate], now: NIODeadline) -> SubscriptionID? {
    guard subscribers.count < Self.maximumSubscribers else { return nil }
    defer { nextID += 1 }
    var subscriber = Subscriber(lastTakenAt: now)
    subscriber.queue.append(contentsOf: first)
    subscribers[nextID] = subscriber
    return nextID
  }

  /// Queues an update for all subscribers. After `finish` nothing is queued.
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

  /// The next update for a subscriber. nil means that `waiter` is kept and will be returned in a later `Wakeup`.
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

  /// Removes a subscriber. The caller resumes the returned waiter with nil.
  package mutating func cancel(_ id: SubscriptionID) -> Waiter? {
    subscribers.removeValue(forKey: id)?.waiter
  }

  /// Removes the waiter of a subscriber that stays.
  package mutating func withdrawWaiter(of id: SubscriptionID) -> Waiter? {
    defer { subscribers[id]?.waiter = nil }
    return subscribers[id]?.waiter
  }

  /// Drops the subscribers that block others. Called when the outputs have been blocked for a while.
  package mutating func dropStalled(now: NIODeadline) {
    guard subscribers.count > 1 else { return }
    for (id, subscriber) in subscribers where subscriber.isFull && now - subscriber.lastTakenAt >= Self.stallLimit {
      // A subscriber with a full queue has no waiter; its next call returns the error.
      subscribers[id]?.isStalled = true
      subscribers[id]?.queue.removeAll()
      subscribers[id]?.queuedBytes = 0
    }
  }

  /// Sends a keep-alive to a subscriber that has got no update for `interval`.
  /// - Returns: when to call again (nil: never, the subscription has ended), and the waiter to resume.
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
