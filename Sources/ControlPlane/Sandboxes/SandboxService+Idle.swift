import HostAPI
package import Model
package import Persistence

extension SandboxService {
  /// Starts the idle timer of a running sandbox anew (SB-4, TTL-5).
  /// - Throws: `not_found`, `invalid_state`, `host_unavailable`.
  package func ping(_ id: SandboxID, for caller: Caller) async throws {
    let record = try await sandbox(id, for: caller)
    guard record.status == .running else { throw MartletError.invalidState(id, is: record.status, needs: "running") }
    let host = try await host(of: record)
    do {
      try await guestCall { try await host.pingSandbox(id) }
    } catch let error as MartletError where error.code == .invalidState {
      let status = try await refreshed(record, for: caller).status
      throw status == .running ? error : MartletError.invalidState(id, is: status, needs: "running")
    }
    activity.touch(id, at: now)
  }

  /// Sets after how many idle seconds a running or paused sandbox is paused; 0 is never.
  ///
  /// The database holds the value for the next resume (TTL-7); a running sandbox has it at once.
  /// - Throws: `invalid_request`, `not_found`, `invalid_state`, what the host says: nothing is changed then.
  package func setTimeout(_ seconds: Int, of id: SandboxID, for caller: Caller) async throws -> SandboxRecord {
    guard Limits.timeoutSeconds.contains(seconds) else {
      throw MartletError(
        .invalidRequest,
        "timeout_sec must be between \(Limits.timeoutSeconds.lowerBound) and \(Limits.timeoutSeconds.upperBound)")
    }
    return try await work.run(for: id) {
      let record = try await refreshed(sandbox(id, for: caller), for: caller)
      guard record.status == .running || record.status == .paused else {
        throw MartletError.invalidState(id, is: record.status, needs: "running or paused")
      }
      let audit = caller.audit("sandbox.timeout", id, outcome: "ok", at: now)
      let revision = try await repository.setTimeout(
        seconds, of: id, team: caller.teamID, in: record.status, at: now, audit: audit)
      guard let revision else {
        throw MartletError.invalidState(
          id, is: try await sandbox(id, for: caller).status, needs: record.status.rawValue)
      }
      if record.status == .running { try await tellHost(seconds, record, revision, for: caller) }
      return try await sandbox(id, for: caller)
    }
  }

  /// - Parameter revision: of the row that holds the new time-out; what somebody else has written since is not undone.
  private func tellHost(_ seconds: Int, _ record: SandboxRecord, _ revision: Int, for caller: Caller) async throws {
    do {
      let host = try await host(of: record)
      try await guestCall { try await host.setTimeout(seconds, of: record.id) }
    } catch let error as MartletError where error.code == .invalidState {
      // Paused at this moment; the next resume takes the value from the database.
      _ = try await refreshed(record, for: caller)
    } catch {
      let audit = caller.audit(
        "sandbox.timeout", record.id, outcome: MartletError.wrapping(error).code.rawValue, at: now)
      _ = try await repository.setTimeout(
        record.spec.timeoutSeconds, of: record.id, team: caller.teamID, in: .running, revision: revision, at: now,
        audit: audit)
      throw error
    }
  }
}
