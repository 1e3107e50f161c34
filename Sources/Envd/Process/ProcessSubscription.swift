/// A subscriber's view of a process: `next` until nil, then (or earlier) `cancel`.
package struct ProcessSubscription: Sendable {
  package let process: ManagedProcess
  let id: UInt64

  /// The next update, or nil after the end was delivered.
  /// - Throws: `ProcessServiceError.tooSlow` when the subscriber was dropped, `CancellationError` when the task is
  ///   cancelled.
  package func next() async throws -> ProcessUpdate? {
    try await process.nextUpdate(for: id)
  }

  /// Stops listening; the process lives on. Idempotent.
  package func cancel() {
    process.unsubscribe(id)
  }
}
