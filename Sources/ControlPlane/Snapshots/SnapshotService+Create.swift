import Concurrency
import HostAPI
import Logging
package import Model
package import Persistence

extension SnapshotService {
  /// How often a write is attempted when the row changes concurrently.
  private static let attempts = 10

  /// Creates a snapshot of a running or paused sandbox in the caller's team. A running sandbox continues to run.
  /// - Parameters:
  ///   - name: nil generates a name.
  ///   - overwrites: whether to replace a snapshot of that name, which stays usable until the new one is complete.
  /// - Throws: `not_found`, `invalid_state`; `already_exists` for a name that a snapshot or template has;
  ///   `quota_exceeded`; the host's error.
  package func create(
    from id: SandboxID, name: SafeName?, overwrites: Bool = false, for caller: Caller
  ) async throws -> SnapshotRecord {
    try await sandboxes.metrics.counting(.snapshot) {
      let name = try name ?? Self.generatedName()
      let source = try await sandboxes.sandbox(id, for: caller)
      guard source.status == .running || source.status == .paused else {
        throw MartletError.invalidState(id, is: source.status, needs: "running or paused")
      }
      let host = try await sandboxes.host(of: source)
      guard try await sharedTemplate(name, for: caller) == nil else {
        throw MartletError(.alreadyExists, "a template named \(name) exists; choose another name")
      }
      return try await sandboxes.work.run(for: [.sandbox(id), .snapshot(caller.teamID, name)]) {
        try await create(name, from: source, overwrites, on: host, for: caller)
      }
    }
  }

  private static func generatedName() throws -> SafeName {
    let digits = String(UInt32.random(in: .min ... .max), radix: 16)
    return try SafeName("snap-" + String(repeating: "0", count: 8 - digits.count) + digits)
  }

  private func create(
    _ name: SafeName, from source: SandboxRecord, _ overwrites: Bool, on host: any HostClient, for caller: Caller
  ) async throws -> SnapshotRecord {
    let reserved = try await sandboxes.quotas.checking {
      try await reserve(name, from: source, overwrites, on: host.hostID, for: caller)
    }
    let request = SnapshotRequest(
      sandboxID: source.id, name: name, teamID: caller.teamID, overwrites: reserved.status == .replacing)
    let made: HostTemplate
    do {
      let timeoutError = MartletError(
        .deadlineExceeded, "snapshot \(name) is still being created; list the snapshots later")
      made = try await waitAtMost(Self.createDeadline, throwing: timeoutError) {
        try await host.createSnapshot(request)
      }
    } catch {
      throw await undoReservation(reserved, MartletError.wrapping(error), for: caller)
    }
    var next = reserved.published(made, on: host.hostID, at: now)
    next.sourceID = source.id
    let published = try await publish(reserved, next, on: host, for: caller)
    if reserved.hostID != host.hostID {
      await removeCopy(of: published, createdAt: reserved.createdAt, on: reserved.hostID)
    }
    await report(published, source, on: host)
    return published
  }

  /// Reserves the name: of two racing calls one succeeds.
  private func reserve(
    _ name: SafeName, from source: SandboxRecord, _ overwrites: Bool, on host: HostID, for caller: Caller
  ) async throws -> SnapshotRecord {
    let audit = audit("snapshot.create", name, outcome: "accepted", for: caller)
    for _ in 0..<Self.attempts {
      guard let existing = try await repository.snapshot(name, team: caller.teamID) else {
        let spec = source.spec
        let new = SnapshotRecord(
          teamID: caller.teamID, name: name, vcpus: spec.vcpus, memoryMiB: spec.memoryMiB,
          diskSizeMiB: spec.diskSizeMiB,
          hostID: host, sourceID: source.id, createdAt: now)
        if try await repository.insert(new, quota: sandboxes.quotas.defaults, audit: audit) { return new }
        continue
      }
      try await require(existing, canBeReplaced: overwrites)
      guard existing.status == .ready else { continue }
      if try await repository.replace(existing, with: existing.with(.replacing, at: now), audit: audit),
        let replaced = try await repository.snapshot(name, team: caller.teamID)
      {
        return replaced
      }
    }
    throw MartletError(.alreadyExists, "another request is changing snapshot \(name); try again")
  }

  private func require(_ existing: SnapshotRecord, canBeReplaced overwrites: Bool) async throws {
    let name = existing.name
    switch existing.status {
    case .ready where overwrites:
      return
    case .ready:
      throw MartletError(
        .alreadyExists, "a snapshot named \(name) exists; choose another name, or replace it with ?overwrite=true")
    case .creating, .replacing:
      throw MartletError(.alreadyExists, "snapshot \(name) is being created at the moment; choose another name or wait")
    case .deleting:
      guard try await finishDelete(existing) else {
        throw MartletError(.inUse, "snapshot \(name) is still being deleted; choose another name or wait")
      }
    }
  }

  /// Records that the files are complete, also if the monitor has done so before. If the snapshot or the team was
  /// deleted meanwhile, deletes the files too.
  private func publish(
    _ reserved: SnapshotRecord, _ next: SnapshotRecord, on host: any HostClient, for caller: Caller
  ) async throws -> SnapshotRecord {
    do {
      return try await sandboxes.quotas.checking { try await write(next, over: reserved, for: caller) }
    } catch let error as MartletError where error.code == .noTeam || error.code == .notFound {
      sandboxes.audit.add(audit("snapshot.create", next.name, outcome: error.code.rawValue, for: caller))
      await discard(next, on: host)
      throw error
    }
  }

  private func write(
    _ next: SnapshotRecord, over reserved: SnapshotRecord, for caller: Caller
  ) async throws -> SnapshotRecord {
    let audit = audit("snapshot.create", next.name, outcome: "ok", for: caller)
    var current: SnapshotRecord? = reserved
    for _ in 0..<Self.attempts {
      guard current?.status != .deleting else {
        throw MartletError(.notFound, "snapshot \(next.name) was deleted while it was being created")
      }
      let isWritten =
        if let current {
          try await repository.replace(current, with: next, audit: audit)
        } else {
          try await repository.insert(next, audit: audit)
        }
      current = try await repository.snapshot(next.name, team: next.teamID)
      if isWritten { return current ?? next }
    }
    throw MartletError(
      .internalError, "snapshot \(next.name) was created but could not be recorded; it will be repaired")
  }

  /// Removes the files of a deleted snapshot and its row. The monitor removes what is left if that fails.
  private func discard(_ snapshot: SnapshotRecord, on host: any HostClient) async {
    do {
      try await sandboxes.tombstones.bury(
        snapshot.name, team: snapshot.teamID, createdAt: snapshot.createdAt, at: now)
      try await removeFiles(of: snapshot, on: host)
      if let row = try await repository.snapshot(snapshot.name, team: snapshot.teamID), row.status == .deleting {
        _ = try await finishDelete(row)
      }
    } catch {
      logger.warning(
        "files of a deleted snapshot not removed",
        metadata: [LogKey.snapshot: "\(snapshot.name)", LogKey.error: "\(error)"])
    }
  }

  /// Releases the name, or keeps the replaced snapshot unchanged. If the outcome on the host is unknown, the monitor
  /// resolves it.
  private func undoReservation(
    _ reserved: SnapshotRecord, _ failure: MartletError, for caller: Caller
  ) async -> MartletError {
    logger.warning(
      "snapshot not created",
      metadata: [
        LogKey.snapshot: "\(reserved.name)", LogKey.team: "\(reserved.teamID)", LogKey.error: "\(failure)",
      ])
    guard failure.isDefinite else { return failure }
    let audit = audit("snapshot.create", reserved.name, outcome: failure.code.rawValue, for: caller)
    do {
      if reserved.status == .replacing {
        _ = try await repository.replace(reserved, with: reserved.with(.ready, at: now), audit: audit)
      } else {
        _ = try await repository.remove(reserved, audit: audit)
      }
    } catch {
      logger.error(
        "snapshot reservation not undone", metadata: [LogKey.snapshot: "\(reserved.name)", LogKey.error: "\(error)"])
    }
    return failure
  }

  private func report(_ snapshot: SnapshotRecord, _ source: SandboxRecord, on host: any HostClient) async {
    let sandboxReport = try? await sandboxes.guestCall { try await host.sandbox(source.id) }
    let timings = sandboxReport?.timings ?? []
    sandboxes.metrics.observe(.snapshot, timings)
    sandboxes.logPhases("snapshot created", source, timings)
  }
}
