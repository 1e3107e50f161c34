import HostInterface
import Logging
import Model
import Persistence

extension Monitor {
  /// Carries out a decision, unless somebody works on the sandbox: they know better, and the next round looks again.
  func perform(_ action: Reconciler.Action, _ row: SandboxRecord, _ sandbox: HostSandbox?, _ host: (any HostClient)?) async {
    guard action != .none, !service.work.isBusy(row.id) else { return }
    switch action {
    case .none:
      return
    case .transition(let next, let reason):
      await move(row, to: next, reason: reason, facts: host.flatMap { sandbox?.facts(on: $0.hostID) })
      if !next.holdsResources, let host { release(row.id, on: host) }
    case .adopt:
      await adopt(row, sandbox, host)
    case .confirmAbsence(let next, let reason):
      await confirmAbsence(of: row, then: next, reason, on: host)
    case .finishDestroy:
      let service = service
      service.work.start(for: row.id) { await service.finishDestroy(row) }
    case .releaseOnHost:
      if let host { release(row.id, on: host) }
    }
  }

  /// Takes everything that belongs to a sandbox off a host, without holding up the round.
  func release(_ id: SandboxID, on host: any HostClient) {
    let service = service
    service.work.start(for: id) { await service.destroyQuietly(id, on: host) }
  }

  func move(_ row: SandboxRecord, to next: SandboxStatus, reason: String?, facts: SandboxFacts?) async {
    guard row.status.canBecome(next) else { return }
    do {
      let audit = Caller.system(row.teamID).audit("sandbox.reconcile", row.id, outcome: next.rawValue, at: now)
      let won = try await repository.transition(
        row.id, from: row.status, to: next, facts: facts, error: reason, at: now, audit: audit)
      guard won else { return }
      logger.info(
        "sandbox reconciled",
        metadata: [LogKey.sandbox: "\(row.id)", LogKey.status: "\(next.rawValue)", LogKey.reason: "\(reason ?? "")"])
    } catch {
      logger.error("status not written", metadata: [LogKey.sandbox: "\(row.id)", LogKey.error: "\(error)"])
    }
  }

  private func adopt(_ row: SandboxRecord, _ sandbox: HostSandbox?, _ host: (any HostClient)?) async {
    guard let sandbox, let host else { return }
    var row = row
    if row.status == .pending {
      await move(row, to: .starting, reason: nil, facts: nil)
      row.status = .starting
    }
    await move(row, to: .running, reason: nil, facts: sandbox.facts(on: host.hostID))
  }

  /// The list was taken before the row was read, so the sandbox may just have appeared: only the host's own word about this one counts.
  private func confirmAbsence(
    of row: SandboxRecord, then next: SandboxStatus, _ reason: String, on host: (any HostClient)?
  ) async {
    if let host {
      let late = MartletError(.hostUnavailable, "the host does not answer")
      do {
        _ = try await withDeadline(Self.listDeadline, or: late) { try await host.sandbox(row.id) }
        return
      } catch let error as MartletError where error.code == .notFound {
        // Confirmed.
      } catch {
        return
      }
    }
    guard !service.work.isBusy(row.id) else { return }
    await move(row, to: next, reason: reason, facts: nil)
  }
}
