import Concurrency
import Logging
import Model
import Persistence
import ServiceLifecycle

/// Writes data that is collected in memory (activity, uses of keys, audit rows), and deletes expired rows. At shutdown
/// it waits for the work that sandboxes own.
package struct Housekeeping: Service {
  package static let interval: Duration = .seconds(1)
  /// The interval at which expired rows are deleted.
  package static let sweepInterval: Duration = .seconds(3_600)
  /// The maximum number of batches per sweep.
  static let sweepBatches = 10
  /// How long a shutdown waits for creations and destructions in progress; the monitor repairs unfinished ones after
  /// the next start.
  static let drainDeadline: Duration = .seconds(20)

  let work: OwnedWork
  let activity: ActivityTracker
  let authenticator: Authenticator
  let audit: AuditLog
  let quotas: Quotas
  let auditRepository: AuditRepository
  let sandboxRepository: SandboxRepository
  let tombstones: TombstoneRepository
  let leadership: Leadership
  let retention: Retention
  let dependencies: Dependencies

  private var logger: Logger { dependencies.logger }

  package func run() async throws {
    await cancelWhenGracefulShutdown {
      var nextSweep = ContinuousClock.now
      while !Task.isCancelled {
        // Shutdown ends the sleep; the remaining data is written below, where cancellation has no effect.
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

  /// Flushes each kind of data independently of the others' errors. Starts with the audit log, which grows fastest.
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

  /// Deletes some expired rows: a bounded number, so that collected data is written in time.
  /// - Returns: whether the sweep is complete, or failed.
  package func sweep() async -> Bool {
    do {
      try await quotas.deleteExpiredRequests()
      try await deleteTombstones()
      guard let cutoff = retention.cutoff(at: dependencies.now()), await leadership.wasLeader else { return true }
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

  /// Tombstones stay for longer than any host may be away.
  private func deleteTombstones() async throws {
    guard let cutoff = Retention.tombstones.cutoff(at: dependencies.now()), await leadership.wasLeader else { return }
    for _ in 0..<Self.sweepBatches where try await tombstones.delete(before: cutoff) == 0 { return }
  }
}
