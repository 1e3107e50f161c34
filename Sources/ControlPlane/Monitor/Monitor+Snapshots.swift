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

  /// Brings the snapshots of the database and of one host together: what a dead server was making or deleting is
  /// finished, files that no row knows are taken up, rows without files go.
  ///
  /// Rows are read first: whoever deletes takes the files away before the row, whoever creates writes the row before
  /// the files.
  func settleSnapshots(on host: any HostClient) async throws {
    let isFull = beginSnapshotRound(on: host.hostID)
    let rows = try await isFull ? snapshots.repository.all() : snapshots.repository.inTransition()
    guard isFull || rows.contains(where: { !service.work.isBusy($0.key) }) else { return }
    let late = MartletError(.hostUnavailable, "the host does not answer")
    guard
      let templates = try? await waitAtMost(
        Self.listDeadline, throwing: late, for: { try await host.listTemplates(.snapshot) })
    else { return }
    let files = Dictionary(
      templates.filter { $0.kind == .snapshot }.map { (Key(team: $0.teamID, name: $0.name), $0) },
      uniquingKeysWith: { first, _ in first })
    let known = Dictionary(uniqueKeysWithValues: rows.map { (Key(team: $0.teamID, name: $0.name), $0) })
    for key in isFull ? Set(known.keys).union(files.keys) : Set(known.keys) {
      await settle(key, known[key], files[key], on: host)
    }
  }

  private func settle(_ key: Key, _ row: SnapshotRecord?, _ template: HostTemplate?, on host: any HostClient) async {
    guard !service.work.isBusy(.snapshot(key.team, key.name)) else { return }
    if let row, row.status != .ready, await mayBeBusyElsewhere(row.worker, since: row.lastUpdated) { return }
    let age = row.map { now.timeIntervalSince($0.lastUpdated) } ?? 0
    // Who else had begun it is no more: that it is at work was ruled out above. Should its host still make the files,
    // they are adopted.
    let isOfPredecessor = row.map { $0.worker != snapshots.repository.worker || $0.lastUpdated < startedAt } ?? false
    let isOverdue = isOfPredecessor || age > Double(SnapshotService.createDeadline.components.seconds)
    let action = SnapshotReconciler.action(row: row, host: template, on: host.hostID, isOverdue: isOverdue)
    do {
      switch (action, row, template) {
      case (.publish, let row?, let template?): try await publish(row, template, on: host)
      case (.adopt, _, let template?): try await adopt(template, on: host)
      case (.forget, let row?, _): try await forget(row)
      case (.removeCopy, let row?, _): start(row) { await $0.removeCopy(of: row, on: host.hostID) }
      case (.finishDelete, let row?, _): start(row) { _ = try? await $0.finishDelete(row) }
      default: return
      }
    } catch {
      logger.warning("snapshot not settled", metadata: [LogKey.snapshot: "\(key.name)", LogKey.error: "\(error)"])
    }
  }

  /// Hosts may hang; the round does not wait for them (L-26).
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

  private func forget(_ row: SnapshotRecord) async throws {
    guard try await snapshots.repository.remove(row, audit: audit(row.name, row.teamID, "lost")) else { return }
    logger.warning(
      "snapshot without files forgotten", metadata: [LogKey.snapshot: "\(row.name)", LogKey.team: "\(row.teamID)"])
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
      // The team is gone, and with it everybody who could use it.
      start(row) { try? await $0.removeFiles(template.name, team: template.teamID, on: host) }
    }
  }

  private func audit(_ name: SafeName, _ team: TeamID, _ outcome: String) -> AuditRecord {
    Caller.system(team).audit("snapshot.reconcile", of: "snapshot", name.value, outcome: outcome, at: now)
  }
}
