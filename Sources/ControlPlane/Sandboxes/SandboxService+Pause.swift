import HostAPI
import Logging
package import Model
import Persistence

extension SandboxService {
  /// Attempts to record a host's answer when others change the row meanwhile.
  private static let settleAttempts = 10

  /// Saves a running sandbox and gives its resources back; done when this returns. A caller that goes away changes
  /// nothing (TTL-12).
  /// - Throws: `not_found`; `invalid_state` unless it runs; what the host says: the sandbox runs on then.
  package func pause(_ id: SandboxID, for caller: Caller) async throws -> SandboxAnswer {
    try await metrics.counting(.pause) {
      try await work.run(for: id) {
        let record = try await sandbox(id, for: caller)
        return try await perform(.pause, record, for: caller) { host, _ in try await host.pauseSandbox(id) }
      }
    }
  }

  /// Restores a paused sandbox, with the idle time-out that the database holds (TTL-7); returns when its guest agent
  /// answers.
  /// - Parameter previous: whether to go back to the generation before the last one.
  /// - Throws: `not_found`; `invalid_state` unless it is paused; `snapshot_damaged`, `snapshot_incompatible` and
  ///   whatever else the host says: the sandbox stays paused then.
  package func resume(_ id: SandboxID, previous: Bool = false, for caller: Caller) async throws -> SandboxAnswer {
    try await metrics.counting(.resume) {
      try await work.run(for: id) {
        let record = try await refreshed(sandbox(id, for: caller), for: caller)
        return try await perform(.resume, record, for: caller) { host, record in
          let options = ResumeOptions(timeoutSeconds: record.spec.timeoutSeconds, usesPreviousGeneration: previous)
          return try await host.resumeSandbox(id, options)
        }
      }
    }
  }

  private func perform(
    _ change: StateChange, _ found: SandboxRecord, for caller: Caller,
    _ call: @escaping @Sendable (any HostClient, SandboxRecord) async throws -> HostSandbox
  ) async throws -> SandboxAnswer {
    let id = found.id
    guard found.status == change.from else {
      throw MartletError.invalidState(id, is: found.status, needs: change.from.rawValue)
    }
    let host = try await host(of: found)
    let record = try await begin(change, found, for: caller)
    let word: HostSandbox
    do {
      let late = MartletError(
        .deadlineExceeded, "sandbox \(id) is still \(change.through.rawValue); look at it again later")
      word = try await withDeadline(change.deadline, or: late) { try await call(host, record) }
    } catch {
      word = try await afterFailure(of: change, record, MartletError.wrapping(error), on: host, for: caller)
    }
    return try await settle(change, record, word, on: host, for: caller)
  }

  /// Writes that the change has begun; again when something else of the row changed meanwhile, such as its time-out.
  /// - Returns: the row as it was before, with everything that was acknowledged until then.
  private func begin(_ change: StateChange, _ record: SandboxRecord, for caller: Caller) async throws -> SandboxRecord {
    var record = record
    var transition = SandboxTransition(
      to: change.through, at: now, audit: caller.audit(change.action, record.id, outcome: "accepted", at: now))
    if change.to == .running { transition.quota = quotas.defaults }
    for _ in 0..<Self.settleAttempts {
      guard record.status == change.from else { break }
      let (begin, current) = (transition, record)
      if try await quotas.checking({ try await repository.apply(begin, to: current) }) { return record }
      record = try await sandbox(record.id, for: caller)
    }
    throw MartletError.invalidState(record.id, is: record.status, needs: change.from.rawValue)
  }

  /// Records that the host has done it.
  private func settle(
    _ change: StateChange, _ record: SandboxRecord, _ word: HostSandbox, on host: any HostClient, for caller: Caller
  ) async throws -> SandboxAnswer {
    guard word.status == change.to else {
      // Destroyed by somebody else while it was done; that is no failure of the host's.
      if word.status == .destroying || word.status == .stopped {
        throw MartletError.invalidState(record.id, is: word.status, needs: change.to.rawValue)
      }
      throw MartletError(.agentError, "the host says that sandbox \(record.id) is \(word.status.rawValue)")
    }
    let audit = caller.audit(change.action, record.id, outcome: "ok", at: now)
    let transition = SandboxTransition(
      to: change.to, facts: word.facts(on: host.hostID, keeping: record.facts), isAutoPaused: word.isAutoPaused,
      at: now, audit: audit)
    let settled = try await write(transition, to: record.id, after: change, for: caller)
    metrics.observe(change.operation, word.timings)
    logPhases(change.done, record, word.timings)
    return SandboxAnswer(record: settled, timings: word.timings)
  }

  /// The host failed, or did not answer: finds out where the sandbox is, and puts the row there (TTL-2, TTL-11).
  /// - Returns: the host's word when the change was made after all.
  /// - Throws: why it was not.
  private func afterFailure(
    of change: StateChange, _ record: SandboxRecord, _ failure: MartletError, on host: any HostClient,
    for caller: Caller
  ) async throws -> HostSandbox {
    logger.warning(change.notDone, metadata: [LogKey.sandbox: "\(record.id)", LogKey.error: "\(failure)"])
    let word = try? await guestCall { try await host.sandbox(record.id) }
    if let word, word.status == change.to { return word }
    let audit = caller.audit(change.action, record.id, outcome: failure.code.rawValue, at: now)
    // By contract nothing has changed when the host says that it failed.
    switch word?.status ?? (failure.isDefinite ? change.from : change.through) {
    case change.from:
      let back = SandboxTransition(to: change.from, isAutoPaused: record.isAutoPaused, at: now, audit: audit)
      _ = try await write(back, to: record.id, after: change, for: caller)
    case .error:
      let reason = word?.reason ?? failure.message
      _ = try await write(
        SandboxTransition(to: .error, error: reason, at: now, audit: audit), to: record.id, after: change, for: caller)
    default:
      // Under way, or nobody knows: the monitor sees to the row when the host has settled.
      break
    }
    throw failure
  }

  /// Writes what became of a change, also when the monitor was there meanwhile.
  /// - Throws: `invalid_state` when the sandbox was destroyed.
  private func write(
    _ transition: SandboxTransition, to id: SandboxID, after change: StateChange, for caller: Caller
  ) async throws -> SandboxRecord {
    var status = change.through
    for _ in 0..<Self.settleAttempts {
      if try await repository.apply(transition, to: id, from: status) { return try await sandbox(id, for: caller) }
      let record = try await sandbox(id, for: caller)
      if record.status == transition.next { return record }
      guard [change.from, change.through, change.to].contains(record.status), record.status.canBecome(transition.next)
      else {
        throw MartletError.invalidState(
          id, is: record.status, needs: "left alone while it is \(change.through.rawValue)")
      }
      status = record.status
    }
    throw MartletError(.internalError, "the status of sandbox \(id) could not be written; it will be repaired")
  }

  func logPhases(_ message: Logger.Message, _ record: SandboxRecord, _ timings: [PhaseTiming]) {
    let phases = timings.map { "\($0.phase)=\(Int($0.milliseconds.rounded()))" }.joined(separator: " ")
    logger.info(
      message,
      metadata: [LogKey.sandbox: "\(record.id)", LogKey.team: "\(record.teamID)", LogKey.phases: "\(phases)"])
  }
}

extension MartletError {
  /// Whether the other side said that it did not do it, rather than nothing.
  var isDefinite: Bool {
    switch code {
    case .hostUnavailable, .deadlineExceeded, .canceled, .internalError: false
    default: true
    }
  }
}

extension HostSandbox {
  func facts(on host: HostID, keeping old: SandboxFacts) -> SandboxFacts {
    SandboxFacts(
      hostID: host, guestIP: guestIP, hostIP: hostIP, vmm: isolation?.vmm ?? old.vmm,
      accelerator: isolation?.accelerator ?? old.accelerator,
      startedAt: startedAt ?? old.startedAt)
  }
}
