import ControlPlane
import Foundation
import HostAPI
import Model
import NIOCore
import Persistence
import TestSupport
import Testing

/// What hosts hold and the database does not know is set apart and never destroyed.
@Suite(.serialized, .bothLinks) struct QuarantineTests {
  private func quarantine(_ plane: Plane, _ ids: SandboxID...) async throws {
    await plane.control.monitor.tick()
    plane.clock.advance(by: Monitor.unknownGrace + 1)
    #expect(
      try await plane.reconcile {
        let found = await plane.host.quarantinedSandboxes
        return ids.allSatisfy { found[$0] != nil }
      })
  }

  @Test(
    "a running sandbox that no row knows is paused and quarantined after a grace period, never destroyed",
    arguments: SQLDialect.allCases)
  func unknown(dialect: SQLDialect) async throws {
    try await withPlane(dialect) { plane async throws -> Void in
      let spec = SandboxSpec(teamID: plane.caller.teamID)
      _ = try await plane.host.createSandbox(spec)
      await plane.host.put("/f", ByteBuffer(string: "content"), in: spec.id)
      await plane.control.monitor.tick()
      #expect(await plane.host.quarantinedSandboxes.isEmpty)
      try await quarantine(plane, spec.id)
      #expect(await plane.host.sandboxes[spec.id]?.status == .paused)
      #expect(await plane.host.destroyCalls == 0)
      for _ in 0..<3 {
        plane.clock.advance(by: 60)
        await plane.control.monitor.tick()
      }
      let item = try #require(try await plane.control.quarantine.list(for: plane.administrator).first)
      #expect(item.item.id == spec.id.wire && item.teamName == "team" && item.hostID == plane.host.hostID)
      #expect(await code { _ = try await plane.control.quarantine.list(for: plane.caller) } == .forbidden)
      #expect(try await plane.service.list(SandboxFilter(limit: 10), for: plane.caller).page.isEmpty)
    }
  }

  @Test("a sandbox whose pause fails runs on in quarantine", arguments: SQLDialect.allCases)
  func runningOn(dialect: SQLDialect) async throws {
    try await withPlane(dialect) { plane async throws -> Void in
      let spec = SandboxSpec(teamID: plane.caller.teamID)
      _ = try await plane.host.createSandbox(spec)
      await plane.host.fail(.pause, with: MartletError(.insufficientStorage, "the disk is full"))
      try await quarantine(plane, spec.id)
      #expect(await plane.host.sandboxes[spec.id]?.status == .running)
    }
  }

  @Test(
    "an adopted sandbox keeps its id, and resumes with what it had; the audit log says who adopted it",
    arguments: SQLDialect.allCases)
  func adoption(dialect: SQLDialect) async throws {
    try await withPlane(dialect) { plane async throws -> Void in
      let spec = SandboxSpec(teamID: plane.caller.teamID, timeoutSeconds: 77, metadata: ["a": "b"])
      _ = try await plane.host.createSandbox(spec)
      await plane.host.put("/f", ByteBuffer(string: "content"), in: spec.id)
      try await quarantine(plane, spec.id)
      let (service, admin) = (plane.control.quarantine, plane.administrator)
      #expect(await code { _ = try await service.adopt(spec.id.wire, for: plane.caller) } == .forbidden)
      #expect(await code { _ = try await service.adopt(SandboxID().wire, for: admin) } == .notFound)
      #expect(await code { _ = try await service.adopt(spec.id.wire, team: TeamID(), for: admin) } == .invalidRequest)
      _ = try await service.adopt(spec.id.wire, for: admin)
      let row = try await plane.service.sandbox(spec.id, for: plane.caller)
      #expect(row.status == .paused && row.spec == spec && row.facts.hostID == plane.host.hostID)
      #expect(await plane.host.quarantinedSandboxes.isEmpty)
      _ = try await plane.service.resume(spec.id, for: plane.caller)
      #expect(await plane.host.file("/f", in: spec.id) == ByteBuffer(string: "content"))
      let log = try await AuditRepository(database: plane.database).list(team: plane.caller.teamID, limit: 10)
      #expect(log.contains { $0.record.action == "quarantine.adopt" && $0.record.targetID == spec.id.wire })
      #expect(await code { _ = try await service.adopt(spec.id.wire, for: admin) } == .notFound)
    }
  }

  @Test("a sandbox of a team that the database does not know needs another team", arguments: SQLDialect.allCases)
  func otherTeam(dialect: SQLDialect) async throws {
    try await withPlane(dialect) { plane async throws -> Void in
      let spec = SandboxSpec(teamID: TeamID())
      _ = try await plane.host.createSandbox(spec)
      try await quarantine(plane, spec.id)
      let (service, admin) = (plane.control.quarantine, plane.administrator)
      #expect(await code { _ = try await service.adopt(spec.id.wire, for: admin) } == .invalidRequest)
      #expect(await code { _ = try await service.adopt(spec.id.wire, team: TeamID(), for: admin) } == .notFound)
      _ = try await service.adopt(spec.id.wire, team: plane.caller.teamID, for: admin)
      #expect(try await plane.service.resume(spec.id, for: plane.caller).record.status == .running)
      #expect(await plane.host.specs[spec.id]?.teamID == plane.caller.teamID)
    }
  }

  @Test("what is destroyed by hand is removed, remembered and audited", arguments: SQLDialect.allCases)
  func destruction(dialect: SQLDialect) async throws {
    try await withPlane(dialect) { plane async throws -> Void in
      let spec = SandboxSpec(teamID: plane.caller.teamID)
      _ = try await plane.host.createSandbox(spec)
      try await quarantine(plane, spec.id)
      #expect(await code { try await plane.control.quarantine.destroy(spec.id.wire, for: plane.caller) } == .forbidden)
      try await plane.control.quarantine.destroy(spec.id.wire, for: plane.administrator)
      #expect(await plane.host.sandboxes.isEmpty)
      #expect(try await plane.tombstones.isDeleted(spec.id))
      let log = try await AuditRepository(database: plane.database).list(team: plane.caller.teamID, limit: 10)
      #expect(log.contains { $0.record.action == "quarantine.destroy" && $0.record.targetID == spec.id.wire })
    }
  }

  @Test(
    "a sandbox whose row is over without a deletion is quarantined, and adopting it replaces the row",
    arguments: [SandboxStatus.stopped, .error], SQLDialect.allCases)
  func returned(status: SandboxStatus, dialect: SQLDialect) async throws {
    try await withPlane(dialect) { plane async throws -> Void in
      // The files were away, so that the monitor gave the sandbox up, and came back.
      let record = try await plane.leaveRow(status)
      await plane.host.set(record.id, status: .paused)
      try await quarantine(plane, record.id)
      #expect(await plane.host.sandboxes[record.id]?.status == .paused)
      let team = plane.caller.teamID
      _ = try await plane.control.quarantine.adopt(record.id.wire, team: team, for: plane.administrator)
      #expect(try await plane.status(record.id) == .paused)
    }
  }

  @Test("a row of an older backup in any state never destroys a sandbox", arguments: SQLDialect.allCases)
  func olderRows(dialect: SQLDialect) async throws {
    try await withPlane(dialect) { plane async throws -> Void in
      let states = SandboxStatus.allCases.filter { $0 != .destroying && $0 != .error && $0 != .stopped }
      var rows: [SandboxRecord] = []
      for status in states {
        for held in [SandboxStatus.running, .paused] {
          // A row that was not placed when the backup was made says nothing of the host.
          let record = try await plane.leaveRow(status, onHost: status != .pending)
          await plane.host.set(record.id, status: held)
          rows.append(record)
        }
      }
      for _ in 0..<6 {
        plane.clock.advance(by: 60)
        await plane.control.monitor.tick()
        try await Task.sleep(for: .milliseconds(50))
      }
      let held = await plane.host.sandboxes
      for row in rows { #expect(held[row.id] != nil, "\(row.status)") }
    }
  }

  @Test("what the database knows again leaves the quarantine", arguments: SQLDialect.allCases)
  func knownAgain(dialect: SQLDialect) async throws {
    try await withPlane(dialect) { plane async throws -> Void in
      let record = try await plane.create()
      _ = try await plane.service.pause(record.id, for: plane.caller)
      try await plane.host.quarantineSandbox(record.id)
      let name = try SafeName("golden")
      let snapshot = try await plane.snapshots.create(from: record.id, name: name, for: plane.caller)
      try await plane.host.quarantineSnapshot(name, team: snapshot.teamID, createdAt: snapshot.createdAt)
      plane.clock.advance(by: Monitor.snapshotInterval + 1)
      #expect(try await plane.reconcile { await plane.host.quarantinedSandboxes.isEmpty })
      #expect(try await plane.reconcile { await plane.host.snapshotNames == ["golden"] })
      #expect(try await plane.status(record.id) == .paused)
      #expect(try await plane.snapshotRepository.snapshot(name, team: snapshot.teamID)?.status == .ready)
    }
  }

  @Test(
    "what was in quarantine for the whole period is removed, a day after a warning at the earliest",
    arguments: SQLDialect.allCases)
  func expiry(dialect: SQLDialect) async throws {
    try await withPlane(dialect) { plane async throws -> Void in
      let spec = SandboxSpec(teamID: plane.caller.teamID)
      _ = try await plane.host.createSandbox(spec)
      try await quarantine(plane, spec.id)
      await plane.host.setSnapshot(try SafeName("s"), team: plane.caller.teamID, files: [:])
      plane.clock.advance(by: Monitor.snapshotInterval + 1)
      #expect(try await plane.reconcile { await plane.host.quarantinedSnapshots.count == 1 })
      let day: TimeInterval = 86_400
      for age in [day, 40 * day, 40 * day] {
        await plane.host.ageQuarantine(by: age, at: plane.clock.now)
        plane.clock.advance(by: Monitor.snapshotInterval + 1)
        await plane.control.monitor.tick()
        #expect(await plane.host.sandboxes[spec.id] != nil)
      }
      plane.clock.advance(by: day)
      #expect(try await plane.reconcile { await plane.host.sandboxes.isEmpty })
      #expect(try await plane.reconcile { await plane.host.quarantinedSnapshots.isEmpty })
      #expect(try await plane.tombstones.isDeleted(spec.id))
    }
  }

  @Test(
    "an adopted snapshot can be used; a name that is taken is a conflict, and another one can be given",
    arguments: SQLDialect.allCases)
  func snapshots(dialect: SQLDialect) async throws {
    try await withPlane(dialect) { plane async throws -> Void in
      let (name, team) = (try SafeName("golden"), plane.caller.teamID)
      await plane.host.setSnapshot(name, team: team, files: ["/f": ByteBuffer(string: "old")])
      #expect(try await plane.reconcile { await plane.host.quarantinedSnapshots.count == 1 })
      let source = try await plane.create()
      _ = try await plane.snapshots.create(from: source.id, name: name, for: plane.caller)
      let (service, admin) = (plane.control.quarantine, plane.administrator)
      let id = try #require(try await service.list(for: admin).first?.item.id)
      #expect(await code { _ = try await service.adopt(id, for: admin) } == .alreadyExists)
      #expect(await code { _ = try await service.adopt(id, name: .base, for: admin) } == .alreadyExists)
      let other = try SafeName("golden-old")
      _ = try await service.adopt(id, name: other, for: admin)
      #expect(await plane.host.snapshotNames == ["golden", "golden-old"])
      let copy = try await plane.create { $0.template = other }
      #expect(await plane.host.file("/f", in: copy.id) == ByteBuffer(string: "old"))
      #expect(try await service.list(for: admin).isEmpty)
    }
  }

  @Test(
    "a deletion that only an older backup knows does not reach the newer snapshot with the name",
    arguments: SQLDialect.allCases)
  func newerSnapshot(dialect: SQLDialect) async throws {
    try await withPlane(dialect) { plane async throws -> Void in
      let (name, team) = (try SafeName("golden"), plane.caller.teamID)
      let row = SnapshotRecord(
        teamID: team, name: name, status: .ready, vcpus: 1, memoryMiB: 512, diskSizeMiB: 5_120,
        hostID: plane.host.hostID, createdAt: plane.clock.now.addingTimeInterval(-1_000))
      #expect(try await plane.snapshotRepository.insert(row))
      let deleting = row.deleting(at: plane.clock.now)
      #expect(try await plane.snapshotRepository.replace(row, with: deleting))
      await plane.host.setSnapshot(name, team: team, files: ["/f": ByteBuffer(string: "new")])
      #expect(try await plane.reconcile { try await plane.snapshotRepository.all().isEmpty })
      #expect(await plane.host.quarantinedSnapshots.count == 1)
    }
  }

  @Test("a row of an older backup follows the newer snapshot on its host", arguments: SQLDialect.allCases)
  func replacedSnapshot(dialect: SQLDialect) async throws {
    try await withPlane(dialect) { plane async throws -> Void in
      let (name, team) = (try SafeName("golden"), plane.caller.teamID)
      let row = SnapshotRecord(
        teamID: team, name: name, status: .ready, vcpus: 1, memoryMiB: 512, diskSizeMiB: 5_120,
        hostID: plane.host.hostID, createdAt: plane.clock.now.addingTimeInterval(-1_000))
      #expect(try await plane.snapshotRepository.insert(row))
      await plane.host.setSnapshot(name, team: team, files: [:])
      #expect(
        try await plane.reconcile {
          try await plane.snapshotRepository.snapshot(name, team: team)?.vcpus == 2
        })
      #expect(await plane.host.snapshotNames == ["golden"])
    }
  }

  @Test("while the database is another installation's, hosts are left alone", arguments: SQLDialect.allCases)
  func foreignDatabase(dialect: SQLDialect) async throws {
    try await withPlane(dialect) { plane async throws -> Void in
      let record = try await plane.create()
      await plane.control.monitor.tick()
      let own = try await InstallationRepository(database: plane.database).id()
      try await plane.name(InstallationID())
      await plane.host.set(SandboxID(), status: .running)
      try await plane.database.write { connection in
        _ = try connection.execute("UPDATE sandboxes SET status = 'destroying'", [])
      }
      for _ in 0..<3 {
        plane.clock.advance(by: 60)
        await plane.control.monitor.tick()
      }
      #expect(await plane.host.sandboxes.count == 2)
      #expect(await plane.host.quarantinedSandboxes.isEmpty)
      #expect(await code { _ = try await plane.create() } == .noHostsAvailable)
      try await plane.name(own)
      #expect(try await plane.reconcile { await plane.host.sandboxes[record.id] == nil })
    }
  }

  @Test("a host of another installation is left alone", arguments: SQLDialect.allCases)
  func foreignHost(dialect: SQLDialect) async throws {
    try await withPlane(dialect) { plane async throws -> Void in
      let name = try SafeName("golden")
      await plane.host.setSnapshot(name, team: plane.caller.teamID, files: [:])
      await plane.host.belong(to: InstallationID())
      for _ in 0..<3 {
        plane.clock.advance(by: 60)
        await plane.control.monitor.tick()
      }
      #expect(await plane.host.snapshotNames == ["golden"])
      #expect(await plane.host.quarantinedSnapshots.isEmpty)
    }
  }
}

extension SnapshotRecord {
  fileprivate func deleting(at time: Date) -> SnapshotRecord {
    var next = self
    next.status = .deleting
    next.lastUpdated = StoredTime.rounded(time)
    return next
  }
}

extension Plane {
  /// Gives the database another installation id, as replacing it would.
  fileprivate func name(_ id: InstallationID) async throws {
    try await database.write { connection in
      _ = try connection.execute("UPDATE installation SET id = ? WHERE only_row = 1", [.uuid(id.uuid)])
    }
  }
}
