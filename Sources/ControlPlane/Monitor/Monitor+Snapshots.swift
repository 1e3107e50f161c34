import Concurrency
import Foundation
import HostAPI
import Logging
import Model
import Persistence

extension Monitor {
  private struct Key: Hashable {
    var team: TeamID
    var name: SafeName
  }

  /// Reconciles the snapshots of the database with those on one host: completes what a dead control plane was creating
  /// or deleting, quarantines files without a row, deletes rows without files.
  ///
  /// Rows must be read first: a deletion removes the files before the row, and a creation inserts the row before the
  /// files.
  /// - Parameter isFull: whether to compare all snapshots, and not only those in transition.
  func reconcileSnapshots(on host: any HostClient, isFull: Bool) async throws {
    let rows = try await isFull ? snapshots.repository.all() : snapshots.repository.inTransition()
    guard isFull || rows.contains(where: { !service.work.isBusy($0.key) }) else { return }
    let timeoutError = MartletError(.hostUnavailable, "the host does not respond")
    guard
      let templates = try? await waitAtMost(
        Self.listDeadline, throwing: timeoutError, for: { try await host.listTemplates(.snapshot) })
    else { return }
    let files = Dictionary(
      templates.filter { $0.kind == .snapshot }.map { (Key(team: $0.teamID, name: $0.name), $0) },
      uniquingKeysWith: { first, _ in first })
    let known = Dictionary(uniqueKeysWithValues: rows.map { (Key(team: $0.teamID, name: $0.name), $0) })
    for key in isFull ? Set(known.keys).union(files.keys) : Set(known.keys) {
      await reconcile(key, known[key], files[key], on: host)
    }
  }

  private func reconcile(_ key: Key, _ row: SnapshotRecord?, _ template: HostTemplate?, on host: any HostClient) async {
    guard !service.work.isBusy(.snapshot(key.team, key.name)) else { return }
    if let row, row.status != .ready, await mayBeBusyElsewhere(row.worker, since: row.lastUpdated) { return }
    let age = row.map { now.timeIntervalSince($0.lastUpdated) } ?? 0
    // The other worker is dead: that it is still at work was ruled out above. If its host still completes the files,
    // they are quarantined.
    let isOfDeadWorker = row.map { $0.worker != snapshots.repository.worker || $0.lastUpdated < startedAt } ?? false
    let isOverdue = isOfDeadWorker || age > Double(SnapshotService.createDeadline.components.seconds)
    do {
      var isDeleted = false
      if let template, SnapshotReconciler.needsTombstone(row: row, host: template) {
        isDeleted = try await service.tombstones.isDeleted(
          template.name, team: template.teamID, createdAt: template.createdAt)
      }
      let action = SnapshotReconciler.action(
        row: row, host: template, on: host.hostID, isOverdue: isOverdue, isDeleted: isDeleted)
      switch (action, row, template) {
      case (.publish, let row?, let template?), (.follow, let row?, let template?):
        try await publish(row, template, on: host)
      case (.quarantine, _, let template?): quarantine(template, on: host)
      case (.removeFiles, _, let template?): removeFiles(of: template, on: host)
      case (.deleteRow, let row?, _): try await deleteRow(row)
      case (.removeCopy, let row?, let template?):
        start(row) { await $0.removeCopy(of: row, createdAt: template.createdAt, on: host.hostID) }
      case (.finishDelete, let row?, _): start(row) { _ = try? await $0.finishDelete(row) }
      default: return
      }
    } catch {
      logger.warning("snapshot not reconciled", metadata: [LogKey.snapshot: "\(key.name)", LogKey.error: "\(error)"])
    }
  }

  /// Starts work in the background, as a host may hang and must not block the round.
  private func start(_ row: SnapshotRecord, _ work: @escaping @Sendable (SnapshotService) async -> Void) {
    let snapshots = snapshots
    service.work.start(for: row.key) { await work(snapshots) }
  }

  private func publish(_ row: SnapshotRecord, _ template: HostTemplate, on host: any HostClient) async throws {
    let next = row.published(template, on: host.hostID, at: now)
    guard try await snapshots.repository.replace(row, with: next, audit: audit(row.name, row.teamID, "published"))
    else { return }
    logger.info("snapshot published", metadata: [LogKey.snapshot: "\(row.name)", LogKey.team: "\(row.teamID)"])
  }

  private func deleteRow(_ row: SnapshotRecord) async throws {
    guard try await snapshots.repository.remove(row, audit: audit(row.name, row.teamID, "lost")) else { return }
    logger.warning(
      "snapshot row without files deleted", metadata: [LogKey.snapshot: "\(row.name)", LogKey.team: "\(row.teamID)"])
  }

  private func quarantine(_ template: HostTemplate, on host: any HostClient) {
    let logger = logger
    service.work.start(for: .snapshot(template.teamID, template.name)) {
      let metadata: Logger.Metadata = [LogKey.snapshot: "\(template.name)", LogKey.team: "\(template.teamID)"]
      do {
        let late = MartletError(.hostUnavailable, "the host does not answer")
        try await waitAtMost(SnapshotService.deleteDeadline, throwing: late) {
          try await host.quarantineSnapshot(template.name, team: template.teamID, createdAt: template.createdAt)
        }
        logger.warning("unknown snapshot quarantined", metadata: metadata)
      } catch {
        logger.warning(
          "unknown snapshot not quarantined", metadata: metadata.merging([LogKey.error: "\(error)"]) { $1 })
      }
    }
  }

  private func removeFiles(of template: HostTemplate, on host: any HostClient) {
    let snapshots = snapshots
    service.work.start(for: .snapshot(template.teamID, template.name)) {
      try? await snapshots.removeFiles(
        template.name, team: template.teamID, createdAt: template.createdAt, on: host)
    }
  }

  private func audit(_ name: SafeName, _ team: TeamID, _ outcome: String) -> AuditRecord {
    Caller.system(team).audit("snapshot.reconcile", of: "snapshot", name.value, outcome: outcome, at: now)
  }
}
