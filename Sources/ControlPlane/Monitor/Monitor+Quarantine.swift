import Concurrency
import Foundation
import HostAPI
import Logging
import Model
import Persistence

extension Monitor {
  /// Has a host set a sandbox apart that the database does not know, without holding up the round.
  func quarantine(_ id: SandboxID, on host: any HostClient) {
    let logger = logger
    service.work.start(for: .sandbox(id)) {
      let metadata: Logger.Metadata = [LogKey.sandbox: "\(id)", LogKey.host: "\(host.hostID)"]
      do {
        let late = MartletError(.hostUnavailable, "the host does not answer")
        try await waitAtMost(SandboxService.destroyDeadline, throwing: late) { try await host.quarantineSandbox(id) }
        logger.warning("unknown sandbox quarantined", metadata: metadata)
      } catch {
        logger.warning(
          "unknown sandbox not quarantined", metadata: metadata.merging([LogKey.error: "\(error)"]) { $1 })
      }
    }
  }

  /// Looks at what a host keeps in quarantine: what the database knows leaves it, what the database remembers as
  /// deleted is removed, and what has been there for too long is removed after a warning.
  /// - Throws: when the host does not answer, or belongs to another installation.
  func settleQuarantine(of host: any HostClient) async throws {
    let late = MartletError(.hostUnavailable, "the host does not answer")
    let found = try await waitAtMost(Self.listDeadline, throwing: late) { try await host.quarantine() }
    guard watch.isOwn(found.installation) else {
      throw MartletError(.wrongInstallation, "host \(host.hostID) belongs to another installation")
    }
    for item in found.items {
      do {
        switch item.kind {
        case .sandbox(let spec, _): try await settle(item, spec, on: host)
        case .snapshot(let id, let template): try await settle(item, id, template, on: host)
        }
      } catch {
        logger.warning(
          "quarantined item not settled", metadata: ["quarantine.id": "\(item.id)", LogKey.error: "\(error)"])
      }
    }
  }

  private func settle(_ item: QuarantinedItem, _ spec: SandboxSpec, on host: any HostClient) async throws {
    guard !service.work.isBusy(spec.id) else { return }
    if try await service.tombstones.isDeleted(spec.id) { return release(spec.id, on: host) }
    if let row = try await repository.sandbox(spec.id), row.status.holdsResources {
      guard row.facts.hostID == host.hostID else { return }
      _ = try await host.releaseSandbox(spec.id, to: row.teamID)
      return logger.notice("quarantined sandbox is known again", metadata: [LogKey.sandbox: "\(spec.id)"])
    }
    try await expire(item, on: host)
  }

  private func settle(
    _ item: QuarantinedItem, _ id: GenerationID, _ template: HostTemplate, on host: any HostClient
  ) async throws {
    let (name, team) = (template.name, template.teamID)
    guard !service.work.isBusy(.snapshot(team, name)) else { return }
    if try await service.tombstones.isDeleted(name, team: team, createdAt: item.createdAt) {
      return try await host.removeQuarantinedSnapshot(id)
    }
    if let row = try await snapshots.repository.snapshot(name, team: team), row.status == .ready,
      row.hostID == host.hostID, SnapshotMoment.isSame(row.createdAt, item.createdAt)
    {
      _ = try await host.releaseSnapshot(id, as: name, team: team)
      return logger.notice("quarantined snapshot is known again", metadata: [LogKey.snapshot: "\(name)"])
    }
    try await expire(item, on: host)
  }

  /// Removes what no database has claimed for the whole period, at the earliest a day after the first warning.
  private func expire(_ item: QuarantinedItem, on host: any HostClient) async throws {
    guard let end = quarantine.period.end(of: item.quarantinedAt),
      now >= end.addingTimeInterval(-QuarantinePeriod.warning)
    else { return }
    let (first, isNew) = noteWarning(item.id)
    let removal = max(end, first.addingTimeInterval(QuarantinePeriod.notice))
    let metadata: Logger.Metadata = [
      "quarantine.id": "\(item.id)", LogKey.team: "\(item.teamID)", LogKey.host: "\(host.hostID)",
      "quarantine.end": "\(removal)",
    ]
    guard now >= removal else {
      if isNew { logger.warning("quarantined item will be removed; adopt it to keep it", metadata: metadata) }
      return
    }
    logger.warning("quarantined item removed: no database claimed it", metadata: metadata)
    try await quarantine.remove(item, on: host, action: "quarantine.expire", for: Caller.system(item.teamID))
  }
}
