import Concurrency
import Foundation
import HostAPI
import Logging
package import Model
import Persistence

extension SnapshotService {
  /// Deletes a snapshot of the caller's team. Sandboxes that were created from it continue to work: their host keeps
  /// the layers that they need.
  ///
  /// The name is invisible to tenants at once; hosts that are unavailable delete the files when they are back.
  /// - Throws: `forbidden` for templates of the platform and base templates, before any change; `not_found`;
  ///   `invalid_state` while the snapshot is being created.
  package func delete(_ name: SafeName, for caller: Caller) async throws {
    guard let record = try await repository.snapshot(name, team: caller.teamID), caller.teamID != .platform else {
      throw try await refusal(name, for: caller)
    }
    try await sandboxes.work.run(for: [record.key]) { try await delete(record, for: caller) }
  }

  /// Deletes a snapshot of any team, including the platform; for administrators.
  /// - Throws: `forbidden` for base templates, which are part of the hosts' images; `not_found`; `invalid_state` while
  ///   the snapshot is being created.
  package func delete(_ name: SafeName, of team: TeamID, for caller: Caller) async throws {
    try caller.principal.requireAdmin()
    let caller = caller.acting(in: team)
    guard let record = try await repository.snapshot(name, team: team) else {
      guard try await sandboxes.placement.templates(visibleTo: .platform).contains(where: { $0.name == name }) else {
        throw MartletError(.notFound, "snapshot \(name) of \(team) does not exist")
      }
      throw MartletError(.forbidden, "\(name) is a base template; it is removed with the hosts' images")
    }
    try await sandboxes.work.run(for: [record.key]) { try await delete(record, for: caller) }
  }

  private func refusal(_ name: SafeName, for caller: Caller) async throws -> MartletError {
    guard let template = try await sharedTemplate(name, for: caller) else {
      return MartletError(.notFound, "snapshot \(name) does not exist")
    }
    guard template.teamID == .platform else {
      return MartletError(.forbidden, "\(name) is a base template, which cannot be deleted with this call")
    }
    return MartletError(.forbidden, "template \(name) belongs to the platform; only administrators may delete it")
  }

  private func delete(_ record: SnapshotRecord, for caller: Caller) async throws {
    switch record.status {
    case .deleting: throw MartletError(.notFound, "snapshot \(record.name) does not exist")
    case .creating, .replacing:
      throw MartletError(.invalidState, "snapshot \(record.name) is being created; delete it afterwards")
    case .ready: break
    }
    let audit = audit("snapshot.delete", record.name, outcome: "ok", for: caller)
    guard try await repository.replace(record, with: record.with(.deleting, at: now), audit: audit),
      let deleting = try await repository.snapshot(record.name, team: record.teamID)
    else { throw MartletError(.invalidState, "another request is changing snapshot \(record.name); try again") }
    _ = try await finishDelete(deleting)
  }

  /// Deletes the files of exactly this snapshot on every host, and then the row; also used by the monitor. Tombstones say
  /// which other copies may be removed.
  /// - Returns: false if a host did not confirm. The host that stores the snapshot must be registered: while it is not,
  ///   its files still exist.
  func finishDelete(_ record: SnapshotRecord) async throws -> Bool {
    let hosts = await sandboxes.directory.hosts()
    guard hosts.contains(where: { $0.hostID == record.hostID }) else { return false }
    for host in hosts {
      do {
        try await removeFiles(of: record, on: host)
      } catch {
        logger.warning(
          "host did not delete snapshot",
          metadata: [LogKey.snapshot: "\(record.name)", LogKey.host: "\(host.hostID)", LogKey.error: "\(error)"])
        return false
      }
    }
    guard try await repository.remove(record) else { return false }
    logger.info("snapshot deleted", metadata: [LogKey.snapshot: "\(record.name)", LogKey.team: "\(record.teamID)"])
    return true
  }

  /// Removes the files of exactly this snapshot: a newer one that has its name by now stays.
  func removeFiles(of record: SnapshotRecord, on host: any HostClient) async throws {
    try await removeFiles(record.name, team: record.teamID, createdAt: record.createdAt, on: host)
  }

  func removeFiles(_ name: SafeName, team: TeamID, createdAt: Date, on host: any HostClient) async throws {
    let late = MartletError(.hostUnavailable, "the host does not answer")
    try await waitAtMost(Self.deleteDeadline, throwing: late) {
      try await host.deleteSnapshot(name, team: team, createdAt: createdAt)
    }
  }

  /// Deletes the copy that was made at `createdAt` on a host other than the snapshot's. Meanwhile the row's state
  /// `replacing` keeps other requests from creating a new copy there.
  func removeCopy(of record: SnapshotRecord, createdAt: Date, on hostID: HostID) async {
    guard record.hostID != hostID, let host = await sandboxes.directory.host(hostID) else { return }
    do {
      guard try await repository.replace(record, with: record.with(.replacing, at: now)) else { return }
      try? await removeFiles(record.name, team: record.teamID, createdAt: createdAt, on: host)
      guard let locked = try await repository.snapshot(record.name, team: record.teamID), locked.status == .replacing
      else { return }
      _ = try await repository.replace(locked, with: locked.with(.ready, at: now))
    } catch {
      logger.error(
        "snapshot status not recorded", metadata: [LogKey.snapshot: "\(record.name)", LogKey.error: "\(error)"])
    }
  }
}
