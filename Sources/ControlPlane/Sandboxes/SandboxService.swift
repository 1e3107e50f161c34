import Foundation
import HostAPI
import Logging
package import Model
package import Persistence

/// What tenants can do with sandboxes. Every call names its caller, and finds only what belongs to the caller's team
/// (AUTH-5).
///
/// Status changes go through `SandboxRepository.transition` and nothing else: compare-and-set, audited.
package struct SandboxService: Sendable {
  /// Creating may mean a cold boot in an emulator on a busy machine.
  static let createDeadline: Duration = .seconds(300)
  /// After this a destroy is left to the monitor; the row says `destroying` until the host has done it.
  static let destroyDeadline: Duration = .seconds(30)
  /// For calls to the guest that move little data.
  static let guestDeadline: Duration = .seconds(30)

  let repository: SandboxRepository
  let snapshots: SnapshotRepository
  let directory: any HostDirectory
  let placement: Placement
  let quotas: Quotas
  let work: OwnedWork
  let audit: AuditLog
  let activity: ActivityTracker
  let singleFlightResumes: SingleFlightResumes
  let outputBudget = OutputBudget()
  let metrics: PlaneMetrics
  let dependencies: Dependencies

  var logger: Logger { dependencies.logger }
  var now: Date { dependencies.now() }

  // MARK: Reading

  /// - Parameter version: of the database, when it is new enough for the caller.
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

  /// Returns when the sandbox runs; resumes one that asked for it.
  /// - Throws: `not_found`, `invalid_state` when it is not running, `host_unavailable`.
  package func requireRunning(_ id: SandboxID, for caller: Caller) async throws {
    _ = try await runningHost(of: id, for: caller)
  }

  // MARK: Shared

  /// - Throws: `host_unavailable`.
  func host(of record: SandboxRecord) async throws -> any HostClient {
    guard let hostID = record.facts.hostID, let host = await directory.host(hostID) else {
      throw MartletError(.hostUnavailable, "the host of sandbox \(record.id) is not known at the moment; try again")
    }
    return host
  }

  /// Bounds a short call to a guest.
  func guestCall<Value: Sendable>(_ call: @escaping @Sendable () async throws -> Value) async throws -> Value {
    let late = MartletError(
      .agentError, "the sandbox did not answer within \(Self.guestDeadline.components.seconds) seconds; try again")
    return try await withDeadline(Self.guestDeadline, or: late, call)
  }

  /// Notes a mutation of a guest in the audit log, with its outcome.
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
