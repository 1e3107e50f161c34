import Concurrency
import HostAPI
import Logging
import Model
import Persistence

extension SandboxService {
  /// How long a request waits for its sandbox to resume.
  static let autoResumeDeadline: Duration = .seconds(60)
  private static let autoResumePollInterval: Duration = .milliseconds(50)

  /// Returns the host of a running sandbox. Resumes the sandbox first if it is paused and was created with
  /// `auto_resume`. Counts as activity.
  ///
  /// Restarts the idle timer before the caller's work begins, so that it cannot expire in between.
  /// - Throws: `not_found`, `invalid_state`, `host_unavailable`; `deadline_exceeded` when resuming takes too long.
  func runningHost(of id: SandboxID, for caller: Caller) async throws -> any HostClient {
    var record = try await sandbox(id, for: caller)
    if record.status == .running {
      let host = try await host(of: record)
      if try await restartIdleTimer(of: record, on: host) {
        activity.touch(id, at: now)
        return host
      }
      record = try await refreshed(record, for: caller)
    }
    guard record.autoResumes, Self.canAutoResume(record.status) else { throw Self.notRunning(record) }
    try await autoResume(id, for: caller)
    activity.touch(id, at: now)
    return try await host(of: record)
  }

  /// Updates a row with the state `running` if its host has auto-paused the sandbox meanwhile.
  func refreshed(_ record: SandboxRecord, for caller: Caller) async throws -> SandboxRecord {
    guard record.status == .running, let host = try? await host(of: record) else { return record }
    guard let report = try? await guestCall({ try await host.sandbox(record.id) }), report.status == .paused else {
      return record
    }
    if try await !recordHostPause(record, report, on: host.hostID) {
      // Another column of the row, such as the time-out, changed meanwhile.
      let current = try await sandbox(record.id, for: caller)
      if current.status == .running, current.revision != record.revision {
        _ = try await recordHostPause(current, report, on: host.hostID)
      }
    }
    return try await sandbox(record.id, for: caller)
  }

  /// Records that the host paused a sandbox on its own. Of several concurrent callers one writes the row and counts the
  /// pause.
  func recordHostPause(_ record: SandboxRecord, _ report: HostSandbox, on host: HostID) async throws -> Bool {
    let outcome = report.isAutoPaused ? "idle" : "paused"
    let transition = SandboxTransition(
      to: .paused, facts: report.facts(on: host, keeping: record.facts), isAutoPaused: report.isAutoPaused, at: now,
      audit: Caller.system(record.teamID).audit("sandbox.pause", record.id, outcome: outcome, at: now))
    guard try await repository.apply(transition, to: record) else { return false }
    if report.isAutoPaused {
      metrics.count(.autoPause)
      metrics.observe(.autoPause, report.timings)
      logPhases("idle sandbox paused", record, report.timings)
    }
    return true
  }

  /// - Returns: false when the host has paused the sandbox or is about to.
  private func restartIdleTimer(of record: SandboxRecord, on host: any HostClient) async throws -> Bool {
    guard record.spec.timeoutSeconds > 0 else { return true }
    do {
      try await guestCall { try await host.pingSandbox(record.id) }
      return true
    } catch let error as MartletError where error.code == .invalidState {
      return false
    }
  }

  /// Resumes a sandbox for requests that need it, once for all waiting requests.
  private func autoResume(_ id: SandboxID, for caller: Caller) async throws {
    let timeoutError = MartletError(
      .deadlineExceeded,
      "sandbox \(id) did not resume within \(Self.autoResumeDeadline.components.seconds) seconds; "
        + "it is still being resumed, try again"
    )
    try await waitAtMost(Self.autoResumeDeadline, throwing: timeoutError) {
      try await singleFlightResumes.run(id) { try await resumeWhenPaused(id, for: caller) }
    }
  }

  private func resumeWhenPaused(_ id: SandboxID, for caller: Caller) async throws {
    let end = ContinuousClock.now + Self.autoResumeDeadline
    while ContinuousClock.now < end {
      let record = try await refreshed(sandbox(id, for: caller), for: caller)
      guard Self.canAutoResume(record.status) else { throw Self.notRunning(record) }
      if record.status == .running, try await runsOnHost(record) { return }
      if record.status == .paused, try await tryResume(id, for: caller) { return }
      try await Task.sleep(for: Self.autoResumePollInterval)
    }
  }

  private func runsOnHost(_ record: SandboxRecord) async throws -> Bool {
    let host = try await host(of: record)
    return try await guestCall { try await host.sandbox(record.id) }.status == .running
  }

  /// - Returns: false when another request was faster.
  private func tryResume(_ id: SandboxID, for caller: Caller) async throws -> Bool {
    do {
      _ = try await resume(id, for: caller)
      return true
    } catch let error as MartletError where error.code == .invalidState {
      return false
    }
  }

  private static func canAutoResume(_ status: SandboxStatus) -> Bool {
    switch status {
    case .running, .pausing, .paused, .resuming: true
    default: false
    }
  }

  private static func notRunning(_ record: SandboxRecord) -> MartletError {
    switch record.status {
    case .paused:
      MartletError(
        .invalidState,
        "sandbox \(record.id) is paused; resume it first, "
          + "or create sandboxes with auto_resume to have requests resume them"
      )
    case .running:
      MartletError(.invalidState, "sandbox \(record.id) is being paused because it was idle; resume it in a moment")
    default:
      MartletError.invalidState(record.id, is: record.status, needs: "running")
    }
  }
}
