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
  /// or deleting, adopts files without a row, deletes rows without files.
  ///
  /// Rows must be read first: a deletion removes the files before the row, and a creation inserts the row before the
  /// files.
  func reconcileSnapshots(on host: any HostClient) async throws {
    let isFull = beginSnapshotRound(on: host.hostID)
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
    // they are adopted.
    let isOfDeadWorker = row.map { $0.worker != snapshots.repository.worker || $0.lastUpdated < startedAt } ?? false
    let isOverdue = isOfDeadWorker || age > Double(SnapshotService.createDeadline.components.seconds)
    let action = SnapshotReconciler.action(row: row, host: template, on: host.hostID, isOverdue: isOverdue)
    do {
      switch (action, row, template) {
      case (.publish, let row?, let template?): try await publish(row, template, on: host)
      case (.adopt, _, let template?): try await adopt(template, on: host)
      case (.deleteRow, let row?, _): try await deleteRow(row)
      case (.removeCopy, let row?, _): start(row) { await $0.removeCopy(of: row, on: host.hostID) }
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

  private func adopt(_ template: HostTemplate, on host: any HostClient) async throws {
    let shape = template.shape ?? SandboxShape(vcpus: 1, memoryMiB: 512, diskSizeMiB: 5_120)
    let row = SnapshotRecord(
      teamID: template.teamID, name: template.name, status: .ready, vcpus: shape.vcpus, memoryMiB: shape.memoryMiB,
      diskSizeMiB: shape.diskSizeMiB, sizeBytes: template.sizeBytes, hostID: host.hostID, createdAt: template.createdAt,
      lastUpdated: now)
    do {
      guard try await snapshots.repository.insert(row, audit: audit(row.name, row.teamID, "adopted")) else { return }
      logger.warning(
        "snapshot without a row adopted", metadata: [LogKey.snapshot: "\(row.name)", LogKey.team: "\(row.teamID)"])
    } catch AdmissionRefusal.teamIsGone {
      // The team was deleted, so nothing may use the files.
      start(row) { try? await $0.removeFiles(template.name, team: template.teamID, on: host) }
    }
  }

  private func audit(_ name: SafeName, _ team: TeamID, _ outcome: String) -> AuditRecord {
    Caller.system(team).audit("snapshot.reconcile", of: "snapshot", name.value, outcome: outcome, at: now)
  }
}
