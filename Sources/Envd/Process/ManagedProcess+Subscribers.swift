import Concurrency
package import NIOCore

extension ManagedProcess {
  /// Adds a subscriber. After the start, its first update is the start, and after the end, the end follows; output is
  /// never replayed.
  /// - Parameter keepAlive: a keep-alive is sent after this time without an update.
  /// - Throws: `tooManySubscribers`.
  package func subscribe(keepAlive interval: TimeAmount) throws(ProcessServiceError) -> ProcessSubscription {
    let id = state.withLock { state in
      var first: [ProcessUpdate] = []
      if state.pid > 0 { first.append(.started(pid: UInt32(bitPattern: state.pid))) }
      if let end = state.publishedEnd { first.append(.ended(end)) }
      return state.broadcast.subscribe(first: first, now: .now())
    }
    guard let id else { throw .tooManySubscribers }
    scheduleKeepAlive(id, interval: interval, at: .now() + interval)
    return ProcessSubscription(process: self, id: id)
  }

  func nextUpdate(for id: UInt64) async throws -> ProcessUpdate? {
    try await withTaskCancellationHandler {
      try await withCheckedThrowingContinuation { waiter in
        take(id, waiter)
      }
    } onCancel: {
      stopWaiting(id)
    }
  }

  func unsubscribe(_ id: UInt64) {
    let waiter = state.withLock { $0.broadcast.cancel(id) }
    waiter?.resume(returning: nil)
    resumeOutputs()
  }

  static func resume(_ wakeups: [OutputBroadcast<Waiter>.Wakeup]) {
    for wakeup in wakeups { resume(wakeup.waiter, wakeup.outcome) }
  }

  private func take(_ id: UInt64, _ waiter: Waiter) {
    let (outcome, canRead) = state.withLock { state -> (OutputBroadcast<Waiter>.Outcome?, Bool) in
      // Checked under the lock: a later cancellation finds the waiter.
      if Task.isCancelled { return (.finished, false) }
      let wasBlocked = state.broadcast.isBlocked
      let outcome = state.broadcast.next(for: id, waiter: waiter, now: .now())
      return (outcome, wasBlocked && !state.broadcast.isBlocked)
    }
    if canRead { resumeOutputs() }
    guard let outcome else { return }
    if Task.isCancelled, case .finished = outcome { return waiter.resume(throwing: CancellationError()) }
    Self.resume(waiter, outcome)
  }

  /// Resumes the waiter of a cancelled task. The subscription stays.
  private func stopWaiting(_ id: UInt64) {
    let waiter = state.withLock { $0.broadcast.withdrawWaiter(of: id) }
    waiter?.resume(throwing: CancellationError())
  }

  private func scheduleKeepAlive(_ id: UInt64, interval: TimeAmount, at deadline: NIODeadline) {
    // The closure holds the process weakly: a timer that outlives the process does nothing.
    eventLoop.scheduleTask(deadline: deadline) { [weak self] in
      guard let self else { return }
      let (next, wakeup) = state.withLock { $0.broadcast.keepAlive(id, interval: interval, now: .now()) }
      if let wakeup { Self.resume([wakeup]) }
      if let next { scheduleKeepAlive(id, interval: interval, at: next) }
    }
  }

  private static func resume(_ waiter: Waiter, _ outcome: OutputBroadcast<Waiter>.Outcome) {
    switch outcome {
    case .update(let update): waiter.resume(returning: update)
    case .finished: waiter.resume(returning: nil)
    case .stalled: waiter.resume(throwing: ProcessServiceError.subscriberTooSlow)
    }
  }
}

/// One subscription to a process. Call `next` until it returns nil, then (or earlier) `cancel`.
package struct ProcessSubscription: Sendable {
  package let process: ManagedProcess
  let id: UInt64

  /// The next update, or nil after the end was delivered.
  /// - Throws: `ProcessServiceError.subscriberTooSlow` when the subscriber was dropped, `CancellationError` when the
  ///   task is cancelled.
  package func next() async throws -> ProcessUpdate? {
    try await process.nextUpdate(for: id)
  }

  /// Ends the subscription; the process continues. Idempotent.
  package func cancel() {
    process.unsubscribe(id)
  }
}
