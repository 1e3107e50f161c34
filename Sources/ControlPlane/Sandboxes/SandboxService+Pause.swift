import Concurrency
import HostAPI
import Logging
package import Model
import Persistence

extension SandboxService {
  /// How often a write is attempted when the row changes concurrently.
  private static let writeAttempts = 10

  /// Pauses a running sandbox: saves it and releases its resources. Complete when this returns; continues when the
  /// client disconnects.
  /// - Throws: `not_found`; `invalid_state` unless the sandbox runs; the host's error, in which case the sandbox keeps
  ///   running.
  package func pause(_ id: SandboxID, for caller: Caller) async throws -> SandboxResult {
    try await metrics.counting(.pause) {
      try await work.run(for: id) {
        let record = try await sandbox(id, for: caller)
        return try await perform(.pause, record, for: caller) { host, _ in try await host.pauseSandbox(id) }
      }
    }
  }

  /// Resumes a paused sandbox, with the idle time-out that the database holds. Returns when its guest agent responds.
  /// - Parameter previous: whether to restore the generation before the last one.
  /// - Throws: `not_found`; `invalid_state` unless the sandbox is paused; `snapshot_damaged`, `snapshot_incompatible`
  ///   and other errors of the host, in which case the sandbox stays paused.
  package func resume(_ id: SandboxID, previous: Bool = false, for caller: Caller) async throws -> SandboxResult {
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
  ) async throws -> SandboxResult {
    let id = found.id
    guard found.status == change.from else {
      throw MartletError.invalidState(id, is: found.status, needs: change.from.rawValue)
    }
    let host = try await host(of: found)
    let record = try await begin(change, found, for: caller)
    let report: HostSandbox
    do {
      let timeoutError = MartletError(
        .deadlineExceeded, "sandbox \(id) is still \(change.through.rawValue); query its status later")
      report = try await waitAtMost(change.deadline, throwing: timeoutError) { try await call(host, record) }
    } catch {
      report = try await resolveFailure(of: change, record, MartletError.wrapping(error), on: host, for: caller)
    }
    return try await recordResult(change, record, report, on: host, for: caller)
  }

  /// Records that the change has begun. Retries if another column of the row, such as the time-out, changes
  /// concurrently.
  /// - Returns: the row before the transition, including all changes that were acknowledged until then.
  private func begin(_ change: StateChange, _ record: SandboxRecord, for caller: Caller) async throws -> SandboxRecord {
    var record = record
    var transition = SandboxTransition(
      to: change.through, at: now, audit: caller.audit(change.action, record.id, outcome: "accepted", at: now))
    if change.to == .running { transition.quota = quotas.defaults }
    for _ in 0..<Self.writeAttempts {
      guard record.status == change.from else { break }
      let (begin, current) = (transition, record)
      if try await quotas.checking({ try await repository.apply(begin, to: current) }) { return record }
      record = try await sandbox(record.id, for: caller)
    }
    throw MartletError.invalidState(record.id, is: record.status, needs: change.from.rawValue)
  }

  /// Records that the host has completed the change.
  private func recordResult(
    _ change: StateChange, _ record: SandboxRecord, _ report: HostSandbox, on host: any HostClient, for caller: Caller
  ) async throws -> SandboxResult {
    guard report.status == change.to else {
      // Another caller destroyed the sandbox meanwhile, which is not a failure of the host.
      if report.status == .destroying || report.status == .stopped {
        throw MartletError.invalidState(record.id, is: report.status, needs: change.to.rawValue)
      }
      throw MartletError(.agentError, "the host reports that sandbox \(record.id) is \(report.status.rawValue)")
    }
    let audit = caller.audit(change.action, record.id, outcome: "ok", at: now)
    let transition = SandboxTransition(
      to: change.to, facts: report.facts(on: host.hostID, keeping: record.facts), isAutoPaused: report.isAutoPaused,
      at: now, audit: audit)
    let recorded = try await write(transition, to: record.id, after: change, for: caller)
    metrics.observe(change.operation, report.timings)
    logPhases(change.successMessage, record, report.timings)
    return SandboxResult(record: recorded, timings: report.timings)
  }

  /// Handles an error or a missing response of the host: queries the sandbox's state on the host and updates the row.
  /// - Returns: the host's report if the change was completed nevertheless.
  /// - Throws: `failure` if it was not.
  private func resolveFailure(
    of change: StateChange, _ record: SandboxRecord, _ failure: MartletError, on host: any HostClient,
    for caller: Caller
  ) async throws -> HostSandbox {
    logger.warning(change.failureMessage, metadata: [LogKey.sandbox: "\(record.id)", LogKey.error: "\(failure)"])
    let report = try? await guestCall { try await host.sandbox(record.id) }
    if let report, report.status == change.to { return report }
    let audit = caller.audit(change.action, record.id, outcome: failure.code.rawValue, at: now)
    // The host's contract: an operation that reports failure has changed nothing.
    switch report?.status ?? (failure.isDefinite ? change.from : change.through) {
    case change.from:
      let revert = SandboxTransition(to: change.from, isAutoPaused: record.isAutoPaused, at: now, audit: audit)
      _ = try await write(revert, to: record.id, after: change, for: caller)
    case .error:
      let reason = report?.reason ?? failure.message
      _ = try await write(
        SandboxTransition(to: .error, error: reason, at: now, audit: audit), to: record.id, after: change, for: caller)
    default:
      // Still in progress, or unknown: the monitor updates the row when the host has finished.
      break
    }
    throw failure
  }

  /// Records the result of a change, also if the monitor has updated the row meanwhile.
  /// - Throws: `invalid_state` when the sandbox was destroyed.
  private func write(
    _ transition: SandboxTransition, to id: SandboxID, after change: StateChange, for caller: Caller
  ) async throws -> SandboxRecord {
    var status = change.through
    for _ in 0..<Self.writeAttempts {
      if try await repository.apply(transition, to: id, from: status) { return try await sandbox(id, for: caller) }
      let record = try await sandbox(id, for: caller)
      if record.status == transition.next { return record }
      guard [change.from, change.through, change.to].contains(record.status), record.status.canBecome(transition.next)
      else {
        throw MartletError.invalidState(
          id, is: record.status, needs: "unchanged while it is \(change.through.rawValue)")
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
  /// Whether the host reported that it did not make the change, in contrast to an unknown outcome.
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
