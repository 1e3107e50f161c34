import Concurrency
import HostAPI
import Logging
package import Model
import Persistence

extension SandboxService {
  /// Destroys a sandbox in any state; idempotent.
  ///
  /// Returns when the host has finished. If the host is slow or unavailable, it returns with the sandbox in the state
  /// `destroying`, and the monitor finishes the work.
  /// - Throws: `not_found` for a sandbox that never existed.
  package func destroy(_ id: SandboxID, for caller: Caller) async throws {
    try await metrics.counting(.destroy) {
      try await work.run(for: id) { try await destroyOwned(id, for: caller) }
    }
  }

  private func destroyOwned(_ id: SandboxID, for caller: Caller) async throws {
    while true {
      let record = try await sandbox(id, for: caller)
      switch record.status {
      case .stopped:
        return
      case .destroying:
        return await finishDestroy(record)
      default:
        let won = try await repository.transition(
          id, from: record.status, to: .destroying, at: now,
          audit: caller.audit("sandbox.destroy", id, outcome: "accepted", at: now))
        if won { return await finishDestroy(record) }
      }
    }
  }

  /// Destroys a sandbox whose row has the state `destroying` already, without waiting.
  func startDestroying(_ record: SandboxRecord) {
    work.start(for: .sandbox(record.id)) { await finishDestroy(record) }
  }

  /// Destroys a sandbox on its host and moves its row to `stopped`; also used by the monitor.
  func finishDestroy(_ record: SandboxRecord) async {
    let id = record.id
    do {
      if let hostID = record.facts.hostID {
        guard let host = await directory.host(hostID) else {
          throw MartletError(.hostUnavailable, "the host is not registered")
        }
        let timeoutError = MartletError(.hostUnavailable, "the host does not respond")
        try await waitAtMost(Self.destroyDeadline, throwing: timeoutError) { try await host.destroySandbox(id) }
      }
      let audit = Caller.system(record.teamID).audit("sandbox.destroy", id, outcome: "ok", at: now)
      if try await repository.transition(id, from: .destroying, to: .stopped, at: now, audit: audit) {
        logger.info("sandbox stopped", metadata: [LogKey.sandbox: "\(id)", LogKey.team: "\(record.teamID)"])
      }
    } catch {
      logger.warning("sandbox not destroyed yet", metadata: [LogKey.sandbox: "\(id)", LogKey.error: "\(error)"])
    }
  }
}
