import Concurrency
package import Foundation
import HostAPI
import Logging
import Model
import Persistence
import ServiceLifecycle

/// Reconciles the database with the hosts, every two seconds and independently per host. Of several control planes on
/// one database only the leader does it.
package actor Monitor: Service {
  package static let interval: Duration = .seconds(2)
  /// How long a sandbox without a row is left alone before it is quarantined.
  package static let unknownGrace: TimeInterval = 10
  /// A host's sandboxes become `missing` after it has not responded for this many seconds.
  package static let silenceLimit: TimeInterval = 90
  /// How long a sandbox that another connected worker is changing is not touched, as only that worker knows whether it
  /// is still at work; longer than any such operation may take.
  package static let elsewhereGrace: TimeInterval = 630
  static let listDeadline: Duration = .seconds(10)

  /// The interval at which all snapshots of a host are compared; snapshots in transition are checked every round.
  package static let snapshotInterval: TimeInterval = 30

  let service: SandboxService
  let snapshots: SnapshotService
  let quarantine: QuarantineService
  let watch: InstallationWatch
  let leadership: Leadership
  let startedAt: Date
  private var unknownSince: [HostID: [SandboxID: Date]] = [:]
  private var lastHeard: [HostID: Date] = [:]
  private var lastSnapshotRound: [HostID: Date] = [:]
  /// When this control plane first warned that a quarantined item will be removed, and when it did last.
  private var warned: [String: (first: Date, last: Date)] = [:]
  private var lastUsageSample: Date?
  private var lastLoadSample: Date?
  /// Whether a load sample is in progress.
  private var isSamplingLoad = false
  /// Hosts whose round has not ended. An unresponsive host is skipped, the others continue.
  private var busy: Set<HostID> = []

  var repository: SandboxRepository { service.repository }
  var logger: Logger { service.dependencies.logger }
  var now: Date { service.dependencies.now() }

  init(
    snapshots: SnapshotService, quarantine: QuarantineService, watch: InstallationWatch, leadership: Leadership
  ) {
    self.snapshots = snapshots
    self.quarantine = quarantine
    self.watch = watch
    self.leadership = leadership
    service = snapshots.sandboxes
    startedAt = snapshots.sandboxes.dependencies.now()
  }

  package func run() async throws {
    await cancelWhenGracefulShutdown {
      await withDiscardingTaskGroup { group in
        while !Task.isCancelled {
          if await !self.watch.check() {
            // The database does not describe these hosts, or does not respond.
          } else if await self.checkLeadership() {
            for host in await self.idleHosts() { group.addTask { await self.round(host) } }
            group.addTask { await self.sampleLoad() }
            await self.repairUnplaced()
            await self.sampleUsage()
          } else {
            await self.repairOwn()
          }
          try? await Task.sleep(for: Self.interval)
        }
      }
    }
    await leadership.resign()
  }

  /// Runs one round over all hosts and all unfinished sandboxes.
  package func tick() async {
    guard await watch.check() else { return }
    guard await checkLeadership() else { return await repairOwn() }
    await withDiscardingTaskGroup { group in
      for host in await idleHosts() { group.addTask { await self.round(host) } }
    }
    await repairUnplaced()
    await sampleUsage()
    await sampleLoad()
  }

  private func checkLeadership() async -> Bool {
    if await leadership.isLeader() { return true }
    // Meanwhile another leader may have newer information, so the timers restart when this one leads again.
    unknownSince = [:]
    lastHeard = [:]
    return false
  }

  private func idleHosts() async -> [any HostClient] {
    let idle = await service.directory.hosts().filter { !busy.contains($0.hostID) }
    busy.formUnion(idle.map(\.hostID))
    return idle
  }

  private func round(_ host: any HostClient) async {
    defer { busy.remove(host.hostID) }
    let timeoutError = MartletError(.hostUnavailable, "the host does not respond")
    // Queries the host before the rows are read: a listed sandbox already has its row then.
    let sandboxes = try? await waitAtMost(Self.listDeadline, throwing: timeoutError) { try await host.listSandboxes() }
    do {
      let rows = try await repository.alive(on: host.hostID)
      guard let sandboxes else { return await handleUnresponsiveHost(host, rows) }
      lastHeard[host.hostID] = now
      let isFull = beginSnapshotRound(on: host.hostID)
      if isFull { try await beginFullRound(on: host) }
      await reconcile(rows, with: sandboxes, on: host)
      try await reconcileSnapshots(on: host, isFull: isFull)
    } catch {
      logger.error("monitor round failed", metadata: [LogKey.error: "\(error)"])
    }
  }

  /// Reconciles the host's quarantine, and checks its installation, before the round decides anything: otherwise a row
  /// would be deleted whose files are only quarantined.
  /// - Throws: when the host does not respond, or belongs to another installation; the next round tries again.
  private func beginFullRound(on host: any HostClient) async throws {
    do {
      try await settleQuarantine(of: host)
    } catch {
      endSnapshotRound(on: host.hostID)
      throw error
    }
  }

  /// - Returns: whether to compare all snapshots of the host now, and not only those in transition.
  func beginSnapshotRound(on host: HostID) -> Bool {
    if let last = lastSnapshotRound[host], now.timeIntervalSince(last) < Self.snapshotInterval { return false }
    lastSnapshotRound[host] = now
    return true
  }

  /// Has the next round compare all snapshots again.
  func endSnapshotRound(on host: HostID) { lastSnapshotRound[host] = nil }

  /// Notes a warning that an item will be removed.
  /// - Returns: when the first one was; whether this one is to be logged.
  func noteWarning(_ id: String) -> (first: Date, isNew: Bool) {
    let time = now
    guard let before = warned[id] else {
      warned[id] = (time, time)
      return (time, true)
    }
    let isNew = time.timeIntervalSince(before.last) >= QuarantinePeriod.notice
    if isNew { warned[id]?.last = time }
    return (before.first, isNew)
  }

  /// - Returns: whether the usage at this moment has not been recorded yet.
  func beginUsageSample(at moment: Date) -> Bool {
    guard lastUsageSample != moment else { return false }
    lastUsageSample = moment
    return true
  }

  /// - Returns: whether the load at this moment has not been recorded yet and no sample is in progress.
  func beginLoadSample(at moment: Date) -> Bool {
    guard lastLoadSample != moment, !isSamplingLoad else { return false }
    lastLoadSample = moment
    isSamplingLoad = true
    return true
  }

  func endLoadSample() { isSamplingLoad = false }

  /// Repairs rows that were never placed on a host.
  private func repairUnplaced() async {
    do {
      for row in try await repository.alive(on: nil) {
        await perform(Reconciler.action(row: row, host: nil), row, nil)
      }
    } catch {
      logger.error("monitor could not read sandboxes", metadata: [LogKey.error: "\(error)"])
    }
  }

  private func reconcile(_ rows: [SandboxRecord], with sandboxes: [HostSandbox], on host: any HostClient) async {
    let byID = Dictionary(sandboxes.map { ($0.id, $0) }, uniquingKeysWith: { first, _ in first })
    for row in rows {
      let sandbox = byID[row.id]
      if let activeAt = sandbox?.lastActiveAt, activeAt > row.lastActiveAt ?? .distantPast {
        service.activity.touch(row.id, at: activeAt)
      }
      await perform(Reconciler.action(row: row, host: sandbox), row, host)
    }
    let known = Set(rows.map(\.id))
    let unknownSandboxes = sandboxes.filter { !known.contains($0.id) }
    let remaining = Set(unknownSandboxes.map(\.id))
    unknownSince[host.hostID] = unknownSince[host.hostID]?.filter { remaining.contains($0.key) }
    for sandbox in unknownSandboxes { await releaseUnlisted(sandbox, on: host) }
  }

  /// Handles a sandbox on a host that the host's rows do not contain: its row is finished, or there is none.
  private func releaseUnlisted(_ sandbox: HostSandbox, on host: any HostClient) async {
    guard !service.work.isBusy(sandbox.id) else { return }
    do {
      if let row = try await repository.sandbox(sandbox.id), row.status.holdsResources { return }
      await settleLeftover(sandbox.id, on: host)
    } catch {
      logger.error("monitor could not read sandboxes", metadata: [LogKey.error: "\(error)"])
    }
  }

  /// Removes what a host holds of a sandbox that was deleted. Anything else is none of the database's to remove: it is
  /// quarantined, when it is still unknown after a while.
  func settleLeftover(_ id: SandboxID, on host: any HostClient) async {
    do {
      if try await service.tombstones.isDeleted(id) { return release(id, on: host) }
    } catch {
      return logger.error("monitor could not read tombstones", metadata: [LogKey.error: "\(error)"])
    }
    let since = unknownSince[host.hostID]?[id] ?? now
    unknownSince[host.hostID, default: [:]][id] = since
    guard now.timeIntervalSince(since) >= Self.unknownGrace else { return }
    quarantine(id, on: host)
  }

  private func handleUnresponsiveHost(_ host: any HostClient, _ rows: [SandboxRecord]) async {
    let heard = lastHeard[host.hostID] ?? now
    lastHeard[host.hostID] = heard
    guard now.timeIntervalSince(heard) >= Self.silenceLimit else { return }
    for row in rows where row.status.canBecome(.missing) && row.status != .destroying && !service.work.isBusy(row.id) {
      await move(row, to: .missing)
    }
  }
}
