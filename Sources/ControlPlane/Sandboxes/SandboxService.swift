import Concurrency
import Foundation
import HostAPI
import Logging
package import Model
package import Persistence

/// The operations of tenants on sandboxes. Every call names its caller, and accesses only sandboxes of the caller's
/// team.
///
/// Status changes are made only by `SandboxRepository.transition` and `apply`: compare-and-set, with an audit record.
package struct SandboxService: Sendable {
  /// Time limit of a create, which may include a cold boot in an emulator on a busy machine.
  static let createDeadline: Duration = .seconds(300)
  /// After this time a destroy is left to the monitor; the row has the state `destroying` until the host has finished.
  static let destroyDeadline: Duration = .seconds(30)
  /// Time limit of calls to the guest that transfer little data.
  static let guestDeadline: Duration = .seconds(30)

  let repository: SandboxRepository
  let snapshots: SnapshotRepository
  let tombstones: TombstoneRepository
  let directory: any HostDirectory
  let placement: Placement
  let quotas: Quotas
  let work: OwnedWork
  let audit: AuditLog
  let activity: ActivityTracker
  let singleFlightResumes: SingleFlight<SandboxID, Void>
  let outputBudget = OutputBudget()
  let metrics: PlaneMetrics
  let dependencies: Dependencies

  var logger: Logger { dependencies.logger }
  var now: Date { dependencies.now() }

  // MARK: - Reading

  /// - Parameter version: the oldest acceptable database version, see `Database.find`.
  /// - Throws: `not_found`, also for another team's sandbox.
  package func sandbox(
    _ id: SandboxID, for caller: Caller, notBefore version: DatabaseVersion? = nil
  ) async throws -> SandboxRecord {
    guard let record = try await repository.sandbox(id, team: caller.teamID, notBefore: version) else {
      throw MartletError.sandboxNotFound(id)
    }
    return record
  }

  /// Newest first.
  /// - Returns: a page, and the cursor of the next one if there is more.
  package func list(
    _ filter: SandboxFilter, for caller: Caller
  ) async throws -> (page: [SandboxRecord], next: SandboxCursor?) {
    var filter = filter
    let limit = min(max(filter.limit, Limits.listPage.lowerBound), Limits.listPage.upperBound)
    filter.limit = limit + 1
    let records = try await repository.list(filter, team: caller.teamID)
    let page = Array(records.prefix(limit))
    return (page, records.count > limit ? page.last.map { SandboxCursor($0) } : nil)
  }

  /// Returns when the sandbox runs; resumes it if it was created with `auto_resume`.
  /// - Throws: `not_found`, `invalid_state` when it is not running, `host_unavailable`.
  package func requireRunning(_ id: SandboxID, for caller: Caller) async throws {
    _ = try await runningHost(of: id, for: caller)
  }

  // MARK: - Helpers

  /// - Throws: `host_unavailable`.
  func host(of record: SandboxRecord) async throws -> any HostClient {
    guard let hostID = record.facts.hostID, let host = await directory.host(hostID) else {
      throw MartletError(
        .hostUnavailable, "the host of sandbox \(record.id) is not registered at the moment; try again")
    }
    return host
  }

  /// Bounds a short call to a guest by `guestDeadline`.
  func guestCall<Value: Sendable>(_ call: @escaping @Sendable () async throws -> Value) async throws -> Value {
    let timeoutError = MartletError(
      .agentError, "the sandbox did not respond within \(Self.guestDeadline.components.seconds) seconds; try again")
    return try await waitAtMost(Self.guestDeadline, throwing: timeoutError, for: call)
  }

  /// Records a change of a guest in the audit log, with its outcome.
  func audited<Value>(
    _ action: String, _ id: SandboxID, _ caller: Caller, _ call: () async throws -> Value
  ) async throws -> Value {
    do {
      let value = try await call()
      audit.add(caller.audit(action, id, outcome: "ok", at: now))
      return value
    } catch {
      audit.add(caller.audit(action, id, outcome: MartletError.wrapping(error).code.rawValue, at: now))
      throw error
    }
  }
}
