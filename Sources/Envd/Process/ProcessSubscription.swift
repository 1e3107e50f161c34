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
