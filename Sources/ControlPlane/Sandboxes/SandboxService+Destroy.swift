import HostAPI
import Logging
package import Model
import Persistence

extension SandboxService {
  /// Destroys a sandbox from whatever state it is in; doing it again is success (SB-1, L-27).
  ///
  /// Returns when the host is done, or when it is taking long or is away: then the sandbox stays `destroying`, and the
  /// monitor sees to it.
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

  /// Begins to destroy a sandbox whose row says so already.
  func startDestroying(_ record: SandboxRecord) {
    work.start(for: .sandbox(record.id)) { await finishDestroy(record) }
  }

  /// The second half, also used by the monitor: asks the host, then records that the sandbox is gone.
  func finishDestroy(_ record: SandboxRecord) async {
    let id = record.id
    do {
      if let hostID = record.facts.hostID {
        guard let host = await directory.host(hostID) else {
          throw MartletError(.hostUnavailable, "the host is not known")
        }
        let late = MartletError(.hostUnavailable, "the host does not answer")
        try await withDeadline(Self.destroyDeadline, or: late) { try await host.destroySandbox(id) }
      }
      let audit = Caller.system(record.teamID).audit("sandbox.destroy", id, outcome: "ok", at: now)
      if try await repository.transition(id, from: .destroying, to: .stopped, at: now, audit: audit) {
        logger.info("sandbox stopped", metadata: [LogKey.sandbox: "\(id)", LogKey.team: "\(record.teamID)"])
      }
    } catch {
      logger.warning("destroy not finished", metadata: [LogKey.sandbox: "\(id)", LogKey.error: "\(error)"])
    }
  }
}
