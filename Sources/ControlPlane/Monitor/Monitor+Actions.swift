import Concurrency
import Foundation
import HostAPI
import Logging
import Model
import Persistence

extension Monitor {
  /// Performs an action, unless the sandbox is being changed; then the next round decides again.
  func perform(_ action: Reconciler.Action, _ row: SandboxRecord, _ host: (any HostClient)?) async {
    guard action != .none, !service.work.isBusy(row.id), await !mayBeBusyElsewhere(row) else { return }
    switch action {
    case .none:
      return
    case .finishDestroy:
      let service = service
      service.work.start(for: .sandbox(row.id)) { await service.finishDestroy(row) }
    case .settleLeftover:
      if let host { await settleLeftover(row.id, on: host) }
    case .transition, .adopt, .confirmAbsence:
      await settle(row.id, on: host)
    }
  }

  /// Whether another control plane may be changing the sandbox. Not for destroys, which may safely run twice.
  private func mayBeBusyElsewhere(_ row: SandboxRecord) async -> Bool {
    switch row.status {
    case .pending, .starting, .pausing, .resuming: await mayBeBusyElsewhere(row.worker, since: row.lastUpdated)
    default: false
    }
  }

  /// Whether `worker`, which is not this control plane, may still be doing the work that it began at `time`.
  func mayBeBusyElsewhere(_ worker: WorkerID?, since time: Date) async -> Bool {
    guard now.timeIntervalSince(time) < Self.elsewhereGrace else { return false }
    return await leadership.mayBeAlive(worker)
  }

  /// Repairs sandboxes whose operation was begun by this worker and ended without its result being written. A leader
  /// does not touch them while this worker is connected, so followers must repair their own.
  func repairOwn() async {
    do {
      for row in try await repository.unfinishedOperationsOfThisWorker() where !service.work.isBusy(row.id) {
        guard let id = row.facts.hostID else { await settle(row.id, on: nil); continue }
        if let host = await service.directory.host(id) { await settle(row.id, on: host) }
      }
    } catch {
      logger.error("monitor could not read sandboxes", metadata: [LogKey.error: "\(error)"])
    }
  }

  /// Destroys a sandbox on a host, without blocking the round.
  func release(_ id: SandboxID, on host: any HostClient) {
    let service = service
    service.work.start(for: .sandbox(id)) { await service.destroyIgnoringErrors(id, on: host) }
  }

  /// Reads the row and then the sandbox's state on the host again, and updates the row.
  ///
  /// The list that led here was taken before the row was read: meanwhile a pause or resume may have completed, or the
  /// sandbox may have been created. Only a report of the host that was taken after the row was read determines the
  /// row's next state; and the row changes only if it has not changed since.
  private func settle(_ id: SandboxID, on host: (any HostClient)?) async {
    do {
      guard let row = try await repository.sandbox(id), await !mayBeBusyElsewhere(row) else { return }
      let report = try await report(about: id, from: host)
      guard !service.work.isBusy(id) else { return }
      switch Reconciler.action(row: row, host: report) {
      case .none, .finishDestroy, .settleLeftover:
        return
      case .transition(let next, let reason):
        await move(row, to: next, reason: reason, report, on: host)
        if !next.holdsResources, let host { await settleLeftover(id, on: host) }
      case .confirmAbsence(let next, let reason):
        await move(row, to: next, reason: reason)
      case .adopt:
        await adopt(row, report, on: host)
      }
    } catch {
      logger.warning("sandbox not reconciled", metadata: [LogKey.sandbox: "\(id)", LogKey.error: "\(error)"])
    }
  }

  /// - Returns: nil when there is no host, or the host does not know the sandbox.
  /// - Throws: when the host does not respond.
  private func report(about id: SandboxID, from host: (any HostClient)?) async throws -> HostSandbox? {
    guard let host else { return nil }
    let timeoutError = MartletError(.hostUnavailable, "the host does not respond")
    do {
      return try await waitAtMost(Self.listDeadline, throwing: timeoutError) { try await host.sandbox(id) }
    } catch let error as MartletError where error.code == .notFound {
      return nil
    }
  }

  private func adopt(_ row: SandboxRecord, _ report: HostSandbox?, on host: (any HostClient)?) async {
    var row = row
    if row.status == .pending {
      guard await move(row, to: .starting) else { return }
      row.status = .starting
      row.revision += 1
    }
    await move(row, to: .running, report, on: host)
  }

  /// - Returns: whether the row was unchanged since it was read, and has the state `next` now.
  @discardableResult
  func move(
    _ row: SandboxRecord, to next: SandboxStatus, reason: String? = nil, _ report: HostSandbox? = nil,
    on host: (any HostClient)? = nil
  ) async -> Bool {
    guard row.status.canBecome(next) else { return false }
    do {
      guard try await write(row, next, reason, report, host) else { return false }
      logger.info(
        "sandbox reconciled",
        // The reason is for the tenant: it may quote the guest.
        metadata: [LogKey.sandbox: "\(row.id)", LogKey.status: "\(next.rawValue)"])
      return true
    } catch {
      logger.error("sandbox status not recorded", metadata: [LogKey.sandbox: "\(row.id)", LogKey.error: "\(error)"])
      return false
    }
  }

  private func write(
    _ row: SandboxRecord, _ next: SandboxStatus, _ reason: String?, _ report: HostSandbox?, _ host: (any HostClient)?
  ) async throws -> Bool {
    if next == .paused, let report, let host { return try await service.recordHostPause(row, report, on: host.hostID) }
    let facts = report.flatMap { report in host.map { report.facts(on: $0.hostID, keeping: row.facts) } }
    let audit = Caller.system(row.teamID).audit("sandbox.reconcile", row.id, outcome: next.rawValue, at: now)
    var transition = SandboxTransition(to: next, facts: facts, error: reason, at: now, audit: audit)
    // The virtual machine has ended; the database remembers it, and the host may give back what is left.
    transition.buries = next == .error && report?.status == .error
    return try await repository.apply(transition, to: row)
  }
}
