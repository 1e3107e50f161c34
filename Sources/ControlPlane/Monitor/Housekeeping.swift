import Logging
import Model
import ServiceLifecycle

/// Writes what is collected in memory: activity, uses of keys, audit rows. At shutdown it waits for work that sandboxes own.
package struct Housekeeping: Service {
  package static let interval: Duration = .seconds(1)
  /// How often what has run out is deleted.
  package static let sweepInterval: Duration = .seconds(3_600)
  /// How long a shutdown waits for creations and destructions in progress; what is left is repaired at the next start.
  static let drainDeadline: Duration = .seconds(20)

  let work: OwnedWork
  let activity: ActivityTracker
  let authenticator: Authenticator
  let audit: AuditLog
  let quotas: Quotas
  let logger: Logger

  package func run() async throws {
    await cancelWhenGracefulShutdown {
      var nextSweep = ContinuousClock.now
      while !Task.isCancelled {
        // Shutdown ends the sleep; what is left is written below, where nothing cancels it.
        guard (try? await Task.sleep(for: Self.interval)) != nil else { return }
        await flush()
        guard ContinuousClock.now >= nextSweep else { continue }
        nextSweep = .now + Self.sweepInterval
        await sweep()
      }
    }
    let work = work
    try? await withDeadline(Self.drainDeadline, or: .wrapping(CancellationError())) { await work.drain() }
    await flush()
  }

  package func flush() async {
    do {
      try await activity.flush()
      try await authenticator.flush()
      try await audit.flush()
    } catch {
      logger.error("collected changes not written", metadata: [LogKey.error: "\(error)"])
    }
  }

  private func sweep() async {
    do {
      try await quotas.forgetOldRequests()
    } catch {
      logger.error("old requests not deleted", metadata: [LogKey.error: "\(error)"])
    }
  }
}
