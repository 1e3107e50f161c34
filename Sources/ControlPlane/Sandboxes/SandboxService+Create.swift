import Concurrency
import Foundation
import HostAPI
import Logging
import Model
import Persistence

extension SandboxService {
  /// Creates a sandbox and returns when it runs.
  ///
  /// The row is written before the host is called, so that the monitor can repair the sandbox after a crash. The work
  /// belongs to the sandbox: it continues when the client disconnects, and the sandbox appears in lists.
  /// - Parameter request: identifies a repeated request; `RepeatedRequest` is thrown for one.
  /// - Throws: `invalid_request`, also for a shape other than the snapshot's; `not_found` for an unknown template;
  ///   `quota_exceeded`; `no_hosts_available`; the host's error, in which case the sandbox has the state `error` with
  ///   the reason and holds no resources; `outcome_unknown` with the sandbox's id when the database connection was lost
  ///   after the row was written.
  package func create(
    _ new: NewSandbox, for caller: Caller, request: RepeatableRequest? = nil
  ) async throws -> SandboxResult {
    try await metrics.counting(.create) {
      try new.validate()
      let (spec, host) = try await place(new, for: caller.teamID)
      return try await work.run(for: spec.id) {
        try await create(spec, new.autoResumes, on: host, for: caller, request)
      }
    }
  }

  /// Chooses the host: for a snapshot the host that its row names, for a base template one of the hosts that list it.
  private func place(_ new: NewSandbox, for team: TeamID) async throws -> (SandboxSpec, any HostClient) {
    guard let snapshot = try await snapshots.visible(new.template, to: team) else {
      let spec = new.spec(team: team)
      return (spec, try await placement.host(for: spec))
    }
    let spec = try new.spec(team: team, from: snapshot)
    guard let host = await directory.host(snapshot.hostID) else {
      throw MartletError(
        .hostUnavailable, "the host that stores snapshot \(snapshot.name) is not registered at the moment; try again")
    }
    return (spec, host)
  }

  private func create(
    _ spec: SandboxSpec, _ autoResumes: Bool, on host: any HostClient, for caller: Caller, _ request: RepeatableRequest?
  ) async throws -> SandboxResult {
    let begin = ContinuousClock.now
    let record = SandboxRecord(spec: spec, autoResumes: autoResumes, createdAt: now)
    let audit = caller.audit("sandbox.create", spec.id, outcome: "accepted", at: now)
    try await mappingCreateErrors(of: spec.id, isAdmitted: false) {
      try await quotas.admit([(record, audit)], request: request?.record(for: record))
    }
    return try await mappingCreateErrors(of: spec.id) { try await place(record, on: host, for: caller, begin) }
  }

  private func place(
    _ record: SandboxRecord, on host: any HostClient, for caller: Caller, _ begin: ContinuousClock.Instant
  ) async throws -> SandboxResult {
    let spec = record.spec
    let placed = SandboxFacts(hostID: host.hostID)
    guard try await repository.transition(spec.id, from: .pending, to: .starting, facts: placed, at: now) else {
      throw await superseded(spec.id, for: caller)
    }
    let created: HostSandbox
    do {
      let timeoutError = MartletError(.deadlineExceeded, "the sandbox did not start in time")
      created = try await waitAtMost(Self.createDeadline, throwing: timeoutError) { try await host.createSandbox(spec) }
    } catch {
      throw await creationFailed(spec, on: host, for: caller, error)
    }
    return try await creationSucceeded(.create, record, created, on: host, for: caller, begin)
  }

  /// Maps a database error during creation to `outcome_unknown`: the sandbox may exist already. The monitor repairs it;
  /// the client must query its status.
  /// - Parameter isAdmitted: whether the row was written. Before that, only `PersistenceError.outcomeUnknown` is
  ///   mapped.
  func mappingCreateErrors<Value>(
    of id: SandboxID, isAdmitted: Bool = true, _ work: () async throws -> Value
  ) async throws -> Value {
    do {
      return try await work()
    } catch let error as PersistenceError {
      if !isAdmitted, !error.isOutcomeUnknown { throw error }
      logger.error("outcome of creation not recorded", metadata: [LogKey.sandbox: "\(id)", LogKey.error: "\(error)"])
      throw MartletError(
        .outcomeUnknown,
        "the connection to the database was lost while sandbox \(id) was being created; "
          + "check whether it runs before you try again",
        cause: error)
    }
  }

  /// Records a successful creation.
  /// - Parameter record: the row as it was inserted.
  func creationSucceeded(
    _ operation: PlaneMetrics.Operation, _ record: SandboxRecord, _ created: HostSandbox, on host: any HostClient,
    for caller: Caller,
    _ begin: ContinuousClock.Instant
  ) async throws -> SandboxResult {
    let spec = record.spec
    if created.vcpus != spec.vcpus || created.memoryMiB != spec.memoryMiB || created.diskSizeMiB != spec.diskSizeMiB {
      try await repository.setShape(
        spec.id, vcpus: created.vcpus, memoryMiB: created.memoryMiB, diskSizeMiB: created.diskSizeMiB)
    }
    let (facts, time) = (created.facts(on: host.hostID, keeping: SandboxFacts()), now)
    let won = try await repository.transition(
      spec.id, from: .starting, to: .running, facts: facts, at: time,
      audit: caller.audit("sandbox.create", spec.id, outcome: "ok", at: now))
    guard won else {
      await destroyIgnoringErrors(spec.id, on: host)
      throw await superseded(spec.id, for: caller)
    }
    logger.info(
      "sandbox started",
      metadata: [
        LogKey.sandbox: "\(spec.id)", LogKey.team: "\(spec.teamID)", LogKey.host: "\(host.hostID)",
        LogKey.duration: "\((ContinuousClock.now - begin).milliseconds)",
      ])
    metrics.observe(operation, created.timings)
    return SandboxResult(
      record: try await currentRow(record, created, facts, at: time, for: caller), timings: created.timings)
  }

  /// The row of a running sandbox. If the database is unavailable, it is derived from what was written.
  private func currentRow(
    _ record: SandboxRecord, _ created: HostSandbox, _ facts: SandboxFacts, at time: Date, for caller: Caller
  ) async throws -> SandboxRecord {
    do {
      return try await sandbox(record.id, for: caller)
    } catch is PersistenceError {
      var known = record
      known.spec.vcpus = created.vcpus
      known.spec.memoryMiB = created.memoryMiB
      known.spec.diskSizeMiB = created.diskSizeMiB
      known.status = .running
      known.facts = facts
      known.lastActiveAt = StoredTime.rounded(time)
      known.lastUpdated = StoredTime.rounded(time)
      known.revision += record.status == .pending ? 2 : 1
      return known
    }
  }

  /// Records a failed creation: destroys the sandbox on its host and moves the row to `error` with the reason.
  func creationFailed(
    _ spec: SandboxSpec, on host: any HostClient, for caller: Caller, _ error: any Error
  ) async -> MartletError {
    let failure = MartletError.wrapping(error)
    await destroyIgnoringErrors(spec.id, on: host)
    do {
      _ = try await repository.transition(
        spec.id, from: .starting, to: .error, error: failure.message, at: now,
        audit: caller.audit("sandbox.create", spec.id, outcome: failure.code.rawValue, at: now))
    } catch {
      // The monitor repairs the row: it finds it in `starting` while no worker works on it.
      logger.error("sandbox status not recorded", metadata: [LogKey.sandbox: "\(spec.id)", LogKey.error: "\(error)"])
    }
    logger.warning(
      "sandbox not created",
      metadata: [LogKey.sandbox: "\(spec.id)", LogKey.team: "\(spec.teamID)", LogKey.error: "\(failure)"])
    return MartletError(failure.code, "sandbox \(spec.id) could not be created: \(failure.message)", cause: failure)
  }

  /// The error when the status changed during creation; only a destroy does that.
  private func superseded(_ id: SandboxID, for caller: Caller) async -> MartletError {
    let status = (try? await repository.sandbox(id, team: caller.teamID))?.status ?? .stopped
    return MartletError.invalidState(id, is: status, needs: "unchanged while it is created")
  }

  func destroyIgnoringErrors(_ id: SandboxID, on host: any HostClient) async {
    do {
      let timeoutError = MartletError(.hostUnavailable, "the host does not respond")
      try await waitAtMost(Self.destroyDeadline, throwing: timeoutError) { try await host.destroySandbox(id) }
    } catch {
      // The monitor finds the sandbox on the host and tries again.
      logger.warning("host did not destroy sandbox", metadata: [LogKey.sandbox: "\(id)", LogKey.error: "\(error)"])
    }
  }
}
