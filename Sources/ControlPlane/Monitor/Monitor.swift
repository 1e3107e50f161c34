import Concurrency
package import Foundation
import HostAPI
import Logging
import Model
import Persistence
import ServiceLifecycle

/// Brings database and hosts together by state, every two seconds, each host on its own (MO-2, L-26). Of several
/// control planes on one database the leader does it.
package actor Monitor: Service {
  package static let interval: Duration = .seconds(2)
  /// How long a sandbox that no row knows is left alone.
  package static let unknownGrace: TimeInterval = 10
  /// After this much silence a host's sandboxes are `missing` (MO-1).
  package static let silenceLimit: TimeInterval = 90
  /// How long a sandbox that is being changed is left to a control plane that is connected to the database, which alone
  /// knows whether it still works on it; longer than any such work may take.
  package static let elsewhereGrace: TimeInterval = 630
  static let listDeadline: Duration = .seconds(10)

  /// How often the snapshots of a host are compared; what was being worked on is looked at every round.
  package static let snapshotInterval: TimeInterval = 30

  let service: SandboxService
  let snapshots: SnapshotService
  let leadership: Leadership
  let startedAt: Date
  private var unknownSince: [HostID: [SandboxID: Date]] = [:]
  private var lastHeard: [HostID: Date] = [:]
  private var lastSnapshotRound: [HostID: Date] = [:]
  private var lastUsageSample: Date?
  private var lastLoadSample: Date?
  /// Guests are being asked how busy they are.
  private var isSamplingLoad = false
  /// Hosts whose round is not over; one that hangs is left out, the others go on.
  private var busy: Set<HostID> = []

  var repository: SandboxRepository { service.repository }
  var logger: Logger { service.dependencies.logger }
  var now: Date { service.dependencies.now() }

  init(snapshots: SnapshotService, leadership: Leadership) {
    self.snapshots = snapshots
    self.leadership = leadership
    service = snapshots.sandboxes
    startedAt = snapshots.sandboxes.dependencies.now()
  }

  package func run() async throws {
    await cancelWhenGracefulShutdown {
      await withDiscardingTaskGroup { group in
        while !Task.isCancelled {
          if await self.leads() {
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

  /// One round over all hosts and all sandboxes that are not over.
  package func tick() async {
    guard await leads() else { return await repairOwn() }
    await withDiscardingTaskGroup { group in
      for host in await idleHosts() { group.addTask { await self.round(host) } }
    }
    await repairUnplaced()
    await sampleUsage()
    await sampleLoad()
  }

  private func leads() async -> Bool {
    if await leadership.isLeader() { return true }
    // Another leader may know better by now; silence begins anew when we are it again.
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
    let late = MartletError(.hostUnavailable, "the host does not answer")
    // The host first: a sandbox that it lists has had its row from before.
    let sandboxes = try? await waitAtMost(Self.listDeadline, throwing: late) { try await host.listSandboxes() }
    do {
      let rows = try await repository.alive(on: host.hostID)
      guard let sandboxes else { return await hostIsSilent(host, rows) }
      lastHeard[host.hostID] = now
      await reconcile(rows, with: sandboxes, on: host)
      try await settleSnapshots(on: host)
    } catch {
      logger.error("monitor could not do its round", metadata: [LogKey.error: "\(error)"])
    }
  }

  /// - Returns: whether all snapshots of the host are to be compared now, and not only the inTransition ones.
  func beginSnapshotRound(on host: HostID) -> Bool {
    if let last = lastSnapshotRound[host], now.timeIntervalSince(last) < Self.snapshotInterval { return false }
    lastSnapshotRound[host] = now
    return true
  }

  /// - Returns: whether this moment's usage is still to be written.
  func beginUsageSample(at moment: Date) -> Bool {
    guard lastUsageSample != moment else { return false }
    lastUsageSample = moment
    return true
  }

  /// - Returns: whether this moment's load is still to be asked for, and nobody is at it.
  func beginLoadSample(at moment: Date) -> Bool {
    guard lastLoadSample != moment, !isSamplingLoad else { return false }
    lastLoadSample = moment
    isSamplingLoad = true
    return true
  }

  func endLoadSample() { isSamplingLoad = false }

  /// Rows that never came to a host.
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
    let strangers = sandboxes.filter { !known.contains($0.id) }
    let still = Set(strangers.map(\.id))
    unknownSince[host.hostID] = unknownSince[host.hostID]?.filter { still.contains($0.key) }
    for stranger in strangers { await releaseStranger(stranger, on: host) }
  }

  /// A sandbox on a host without a living row: its row is over, or there is none.
  private func releaseStranger(_ sandbox: HostSandbox, on host: any HostClient) async {
    guard !service.work.isBusy(sandbox.id) else { return }
    do {
      guard let row = try await repository.sandbox(sandbox.id) else { return releaseUnknown(sandbox.id, on: host) }
      guard !row.status.holdsResources else { return }
      await perform(Reconciler.action(row: row, host: sandbox), row, host)
    } catch {
      logger.error("monitor could not read sandboxes", metadata: [LogKey.error: "\(error)"])
    }
  }

  private func releaseUnknown(_ id: SandboxID, on host: any HostClient) {
    let since = unknownSince[host.hostID]?[id] ?? now
    unknownSince[host.hostID, default: [:]][id] = since
    guard now.timeIntervalSince(since) >= Self.unknownGrace else { return }
    logger.warning("unknown sandbox destroyed", metadata: [LogKey.sandbox: "\(id)", LogKey.host: "\(host.hostID)"])
    release(id, on: host)
  }

  private func hostIsSilent(_ host: any HostClient, _ rows: [SandboxRecord]) async {
    let heard = lastHeard[host.hostID] ?? now
    lastHeard[host.hostID] = heard
    guard now.timeIntervalSince(heard) >= Self.silenceLimit else { return }
    for row in rows where row.status.canBecome(.missing) && row.status != .destroying && !service.work.isBusy(row.id) {
      await move(row, to: .missing)
    }
  }
}
