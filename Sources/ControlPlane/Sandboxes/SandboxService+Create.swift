import Foundation
import HostInterface
import Logging
package import Model
package import Persistence

extension SandboxService {
  /// Creates a sandbox and returns when it runs.
  ///
  /// The row exists before the host is asked, so that a crash leaves something to repair. The work belongs to the sandbox: when
  /// the client hangs up it goes on, and the result is in the list.
  /// - Throws: `invalid_request`; `not_found` for an unknown template; `no_hosts_available`; what the host says. In the last case the
  ///   sandbox is there with status `error` and the reason, and holds no resource.
  package func create(_ spec: SandboxSpec, for caller: Caller) async throws -> SandboxRecord {
    var spec = spec
    spec.teamID = caller.teamID
    try spec.validate()
    let host = try await placement.host(for: spec)
    let made = spec
    return try await work.run(for: spec.id) { try await create(made, on: host, for: caller) }
  }

  private func create(_ spec: SandboxSpec, on host: any HostClient, for caller: Caller) async throws -> SandboxRecord {
    let begin = ContinuousClock.now
    let record = SandboxRecord(spec: spec, createdAt: now)
    try await repository.insert(record, audit: caller.audit("sandbox.create", spec.id, outcome: "accepted", at: now))
    let placed = SandboxFacts(hostID: host.hostID)
    guard try await repository.transition(spec.id, from: .pending, to: .starting, facts: placed, at: now) else {
      throw await overtaken(spec.id, for: caller)
    }
    let created: HostSandbox
    do {
      let late = MartletError(.deadlineExceeded, "it did not start in time")
      created = try await withDeadline(Self.createDeadline, or: late) { try await host.createSandbox(spec) }
    } catch {
      throw await creationFailed(spec, on: host, for: caller, error)
    }
    return try await creationSucceeded(spec, created, on: host, for: caller, begin)
  }

  private func creationSucceeded(
    _ spec: SandboxSpec, _ created: HostSandbox, on host: any HostClient, for caller: Caller, _ begin: ContinuousClock.Instant
  ) async throws -> SandboxRecord {
    if created.vcpus != spec.vcpus || created.memoryMiB != spec.memoryMiB || created.diskSizeMiB != spec.diskSizeMiB {
      try await repository.setShape(
        spec.id, vcpus: created.vcpus, memoryMiB: created.memoryMiB, diskSizeMiB: created.diskSizeMiB)
    }
    let won = try await repository.transition(
      spec.id, from: .starting, to: .running, facts: created.facts(on: host.hostID), at: now,
      audit: caller.audit("sandbox.create", spec.id, outcome: "ok", at: now))
    guard won else {
      await destroyQuietly(spec.id, on: host)
      throw await overtaken(spec.id, for: caller)
    }
    logger.info(
      "sandbox runs",
      metadata: [
        LogKey.sandbox: "\(spec.id)", LogKey.team: "\(spec.teamID)", LogKey.host: "\(host.hostID)",
        LogKey.duration: "\((ContinuousClock.now - begin).milliseconds)",
      ])
    return try await sandbox(spec.id, for: caller)
  }

  /// Leaves the row in `error` with the reason, and nothing on the host.
  private func creationFailed(
    _ spec: SandboxSpec, on host: any HostClient, for caller: Caller, _ error: any Error
  ) async -> MartletError {
    let failure = MartletError.wrapping(error)
    await destroyQuietly(spec.id, on: host)
    do {
      _ = try await repository.transition(
        spec.id, from: .starting, to: .error, error: failure.message, at: now,
        audit: caller.audit("sandbox.create", spec.id, outcome: failure.code.rawValue, at: now))
    } catch {
      // The monitor repairs the row: it finds it in `starting` with nobody working on it.
      logger.error("status not written", metadata: [LogKey.sandbox: "\(spec.id)", LogKey.error: "\(error)"])
    }
    logger.warning(
      "sandbox not created",
      metadata: [LogKey.sandbox: "\(spec.id)", LogKey.team: "\(spec.teamID)", LogKey.error: "\(failure)"])
    return MartletError(failure.code, "sandbox \(spec.id) could not be created: \(failure.message)", cause: failure)
  }

  /// Somebody else changed the status while the sandbox was being made; only destroy does that.
  private func overtaken(_ id: SandboxID, for caller: Caller) async -> MartletError {
    let status = (try? await repository.sandbox(id, team: caller.teamID))?.status ?? .stopped
    return MartletError.invalidState(id, is: status, needs: "left alone while it is created")
  }

  func destroyQuietly(_ id: SandboxID, on host: any HostClient) async {
    do {
      let late = MartletError(.hostUnavailable, "the host does not answer")
      try await withDeadline(Self.destroyDeadline, or: late) { try await host.destroySandbox(id) }
    } catch {
      // The monitor finds it on the host and tries again.
      logger.warning("host did not destroy", metadata: [LogKey.sandbox: "\(id)", LogKey.error: "\(error)"])
    }
  }
}

extension HostSandbox {
  func facts(on host: HostID) -> SandboxFacts {
    SandboxFacts(
      hostID: host, guestIP: guestIP, hostIP: hostIP, vmm: isolation?.vmm, accelerator: isolation?.accelerator, startedAt: startedAt)
  }
}
