import Concurrency
import Foundation
import HostAPI
import Logging
import Model
import Persistence

extension Monitor {
  /// Carries out a decision, unless somebody works on the sandbox: they know better, and the next round looks again.
  func perform(_ action: Reconciler.Action, _ row: SandboxRecord, _ host: (any HostClient)?) async {
    guard action != .none, !service.work.isBusy(row.id), await !mayBeBusyElsewhere(row) else { return }
    switch action {
    case .none:
      return
    case .finishDestroy:
      let service = service
      service.work.start(for: .sandbox(row.id)) { await service.finishDestroy(row) }
    case .releaseOnHost:
      if let host { release(row.id, on: host) }
    case .transition, .adopt, .confirmAbsence:
      await settle(row.id, on: host)
    }
  }

  /// Another control plane may be in the middle of this. Destroying is left out: doing it twice does no harm.
  private func mayBeBusyElsewhere(_ row: SandboxRecord) async -> Bool {
    switch row.status {
    case .pending, .starting, .pausing, .resuming: await mayBeBusyElsewhere(row.worker, since: row.lastUpdated)
    default: false
    }
  }

  /// Whether what `worker` began then, on which nobody works here, may still go on.
  func mayBeBusyElsewhere(_ worker: WorkerID?, since time: Date) async -> Bool {
    guard now.timeIntervalSince(time) < Self.elsewhereGrace else { return false }
    return await leadership.isElsewhere(worker)
  }

  /// What was begun here and is not worked on here any more, as its end could not be written. The leader leaves it
  /// alone as long as we are there, so whoever does not lead does this much for itself.
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

  /// Takes everything that belongs to a sandbox off a host, without holding up the round.
  func release(_ id: SandboxID, on host: any HostClient) {
    let service = service
    service.work.start(for: .sandbox(id)) { await service.destroyIgnoringErrors(id, on: host) }
  }

  /// Looks at one sandbox again, the row first and then the host, and writes what is true.
  ///
  /// The list that led here was taken before the row was read: by now a pause or resume may have come and gone, and an
  /// id may have just appeared. Only the host's word about this one, after the row was read, tells how the row should
  /// go on; and the row changes only if nobody changed it meanwhile.
  private func settle(_ id: SandboxID, on host: (any HostClient)?) async {
    do {
      guard let row = try await repository.sandbox(id), await !mayBeBusyElsewhere(row) else { return }
      let word = try await word(about: id, from: host)
      guard !service.work.isBusy(id) else { return }
      switch Reconciler.action(row: row, host: word) {
      case .none, .finishDestroy, .releaseOnHost:
        return
      case .transition(let next, let reason):
        await move(row, to: next, reason: reason, word, on: host)
        if !next.holdsResources, let host { release(id, on: host) }
      case .confirmAbsence(let next, let reason):
        await move(row, to: next, reason: reason)
      case .adopt:
        await adopt(row, word, on: host)
      }
    } catch {
      logger.warning("sandbox not settled", metadata: [LogKey.sandbox: "\(id)", LogKey.error: "\(error)"])
    }
  }

  /// - Returns: nil when the host, asked for this one, does not know it, or when there is no host.
  /// - Throws: when the host does not answer.
  private func word(about id: SandboxID, from host: (any HostClient)?) async throws -> HostSandbox? {
    guard let host else { return nil }
    let late = MartletError(.hostUnavailable, "the host does not answer")
    do {
      return try await waitAtMost(Self.listDeadline, throwing: late) { try await host.sandbox(id) }
    } catch let error as MartletError where error.code == .notFound {
      return nil
    }
  }

  private func adopt(_ row: SandboxRecord, _ word: HostSandbox?, on host: (any HostClient)?) async {
    var row = row
    if row.status == .pending {
      guard await move(row, to: .starting) else { return }
      row.status = .starting
      row.revision += 1
    }
    await move(row, to: .running, word, on: host)
  }

  /// - Returns: whether the row was as it was read, and is now `next`.
  @discardableResult
  func move(
    _ row: SandboxRecord, to next: SandboxStatus, reason: String? = nil, _ word: HostSandbox? = nil,
    on host: (any HostClient)? = nil
  ) async -> Bool {
    guard row.status.canBecome(next) else { return false }
    do {
      guard try await write(row, next, reason, word, host) else { return false }
      logger.info(
        "sandbox reconciled",
        metadata: [LogKey.sandbox: "\(row.id)", LogKey.status: "\(next.rawValue)", LogKey.reason: "\(reason ?? "")"])
      return true
    } catch {
      logger.error("status not written", metadata: [LogKey.sandbox: "\(row.id)", LogKey.error: "\(error)"])
      return false
    }
  }

  private func write(
    _ row: SandboxRecord, _ next: SandboxStatus, _ reason: String?, _ word: HostSandbox?, _ host: (any HostClient)?
  ) async throws -> Bool {
    if next == .paused, let word, let host { return try await service.recordHostPause(row, word, on: host.hostID) }
    let facts = word.flatMap { word in host.map { word.facts(on: $0.hostID, keeping: row.facts) } }
    let audit = Caller.system(row.teamID).audit("sandbox.reconcile", row.id, outcome: next.rawValue, at: now)
    return try await repository.apply(
      SandboxTransition(to: next, facts: facts, error: reason, at: now, audit: audit), to: row)
  }
}
