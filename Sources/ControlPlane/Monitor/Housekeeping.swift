import Concurrency
import Logging
import Model
import Persistence
import ServiceLifecycle

/// Writes what is collected in memory: activity, uses of keys, audit rows. Deletes what is old. At shutdown it waits
/// for work that sandboxes own.
package struct Housekeeping: Service {
  package static let interval: Duration = .seconds(1)
  /// How often what has run out is deleted.
  package static let sweepInterval: Duration = .seconds(3_600)
  /// How much of it in a row.
  static let sweepBatches = 10
  /// How long a shutdown waits for creations and destructions in progress; what is left is repaired at the next start.
  static let drainDeadline: Duration = .seconds(20)

  let work: OwnedWork
  let activity: ActivityTracker
  let authenticator: Authenticator
  let audit: AuditLog
  let quotas: Quotas
  let auditRepository: AuditRepository
  let sandboxRepository: SandboxRepository
  let leadership: Leadership
  let retention: Retention
  let dependencies: Dependencies

  private var logger: Logger { dependencies.logger }

  package func run() async throws {
    await cancelWhenGracefulShutdown {
      var nextSweep = ContinuousClock.now
      while !Task.isCancelled {
        // Shutdown ends the sleep; what is left is written below, where nothing cancels it.
        guard (try? await Task.sleep(for: Self.interval)) != nil else { return }
        await flush()
        guard ContinuousClock.now >= nextSweep else { continue }
        if await sweep() { nextSweep = .now + Self.sweepInterval }
      }
    }
    let work = work
    try? await waitAtMost(Self.drainDeadline) { await work.drain() }
    await flush()
  }

  /// Each by itself: one that cannot be written holds up no other. The audit log first, as it has most to lose.
  package func flush() async {
    await flush("audit rows") { try await audit.flush() }
    await flush("activity") { try await activity.flush() }
    await flush("uses of keys") { try await authenticator.flush() }
  }

  private func flush(_ what: String, _ work: () async throws -> Void) async {
    do {
      try await work()
    } catch {
      logger.error("collected changes not written", metadata: [LogKey.reason: "\(what)", LogKey.error: "\(error)"])
    }
  }

  /// Deletes some of what has run out: little at once, because what is collected has to be written too.
  /// - Returns: whether nothing is left to delete, or cannot be.
  package func sweep() async -> Bool {
    do {
      try await quotas.deleteExpiredRequests()
      guard let cutoff = retention.cutoff(at: dependencies.now()), await leadership.leads else { return true }
      for _ in 0..<Self.sweepBatches {
        let deleted =
          try await auditRepository.delete(before: cutoff) + sandboxRepository.deleteFinished(before: cutoff)
        if deleted == 0 { return true }
      }
      return false
    } catch {
      logger.error("old rows not deleted", metadata: [LogKey.error: "\(error)"])
      return true
    }
  }
}
