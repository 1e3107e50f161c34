import HostAPI
package import Model
package import Persistence

extension SandboxService {
  /// Restarts the idle timer of a running sandbox.
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

  /// Sets the idle time in seconds after which a running or paused sandbox is paused; 0 means never.
  ///
  /// The database stores the value for the next resume; it takes effect at once for a running sandbox.
  /// - Throws: `invalid_request`, `not_found`, `invalid_state`, or the host's error; nothing is changed then.
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
      if record.status == .running { try await sendTimeoutToHost(seconds, record, revision, for: caller) }
      return try await sandbox(id, for: caller)
    }
  }

  /// Sends the new time-out to the host; if that fails, restores the previous value in the row.
  /// - Parameter revision: the revision of the row with the new time-out; a later change of the row is not undone.
  private func sendTimeoutToHost(
    _ seconds: Int, _ record: SandboxRecord, _ revision: Int, for caller: Caller
  ) async throws {
    do {
      let host = try await host(of: record)
      try await guestCall { try await host.setTimeout(seconds, of: record.id) }
    } catch let error as MartletError where error.code == .invalidState {
      // The sandbox was paused at this moment; the next resume reads the value from the database.
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
