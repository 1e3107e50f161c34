import ControlPlane
import Foundation
import HostAPI
import Model
import NIOCore
import Persistence
import TestSupport
import Testing

@Suite(.serialized, .bothLinks) struct SnapshotTests {
  private func name(_ text: String) throws -> SafeName { try SafeName(text) }

  private func names(_ plane: Plane, _ kind: HostTemplate.Kind? = .snapshot) async throws -> [String] {
    try await plane.snapshots.list(kind, limit: 100, for: plane.caller).page.map(\.name.value)
  }

  @Test(
    "a snapshot leaves a running or paused sandbox unchanged, and sandboxes are created from it",
    arguments: [true, false],
    SQLDialect.allCases)
  func create(isPaused: Bool, dialect: SQLDialect) async throws {
    try await withPlane(dialect) { plane async throws -> Void in
      let source = try await plane.create {
        $0.vcpus = 2
        $0.memoryMiB = 256
        $0.diskSizeMiB = 2048
      }
      await plane.host.put("/f", ByteBuffer(string: "frozen"), in: source.id)
      if isPaused { _ = try await plane.service.pause(source.id, for: plane.caller) }
      let snapshot = try await plane.snapshots.create(from: source.id, name: try name("golden"), for: plane.caller)
      #expect(snapshot.status == .ready && snapshot.sourceID == source.id && snapshot.sizeBytes == 1 << 22)
      #expect(snapshot.vcpus == 2 && snapshot.memoryMiB == 256 && snapshot.diskSizeMiB == 2048)
      #expect(try await plane.status(source.id) == (isPaused ? .paused : .running))
      try await plane.service.destroy(source.id, for: plane.caller)
      for _ in 0..<2 {
        let made = try await plane.create { $0.template = snapshot.name }
        #expect(made.spec.vcpus == 2 && made.spec.memoryMiB == 256 && made.spec.diskSizeMiB == 2048)
        #expect(await plane.host.file("/f", in: made.id) == ByteBuffer(string: "frozen"))
      }
    }
  }

  @Test(
    "a shape other than the snapshot's is refused with the snapshot's values; the same is accepted",
    arguments: SQLDialect.allCases)
  func shape(dialect: SQLDialect) async throws {
    try await withPlane(dialect) { plane async throws -> Void in
      let id = try await plane.create().id
      let golden = try await plane.snapshots.create(from: id, name: try name("golden"), for: plane.caller).name
      let changes: [(inout NewSandbox) -> Void] = [
        { $0.vcpus = 2 }, { $0.memoryMiB = 1024 }, { $0.diskSizeMiB = 10_240 },
      ]
      for change in changes {
        do {
          _ = try await plane.create {
            $0.template = golden
            change(&$0)
          }
          Issue.record("another shape was accepted")
        } catch let error as MartletError {
          #expect(error.code == .invalidRequest)
          for value in ["1 vcpus", "memory_mb 512", "disk_size_mb 5120"] { #expect(error.message.contains(value)) }
        }
      }
      let same = try await plane.create {
        $0.template = golden
        $0.vcpus = 1
        $0.memoryMiB = 512
        $0.diskSizeMiB = 5_120
      }
      #expect(same.status == .running)
    }
  }

  @Test(
    "a name that a snapshot or template has is already_exists; overwriting replaces a snapshot",
    arguments: SQLDialect.allCases)
  func duplicates(dialect: SQLDialect) async throws {
    try await withPlane(dialect) { plane async throws -> Void in
      let id = try await plane.create().id
      let golden = try name("golden")
      _ = try await plane.snapshots.create(from: id, name: golden, for: plane.caller)
      #expect(
        await code { _ = try await plane.snapshots.create(from: id, name: golden, for: plane.caller) } == .alreadyExists
      )
      for overwrites in [true, false] {
        #expect(
          await code {
            _ = try await plane.snapshots.create(from: id, name: .base, overwrites: overwrites, for: plane.caller)
          }
            == .alreadyExists)
      }
      await plane.host.put("/f", ByteBuffer(string: "new"), in: id)
      let replaced = try await plane.snapshots.create(from: id, name: golden, overwrites: true, for: plane.caller)
      #expect(replaced.status == .ready)
      let made = try await plane.create { $0.template = golden }
      #expect(await plane.host.file("/f", in: made.id) == ByteBuffer(string: "new"))
      #expect(try await names(plane) == ["golden"])
    }
  }

  @Test("a name is generated when none is given", arguments: SQLDialect.allCases)
  func madeUp(dialect: SQLDialect) async throws {
    try await withPlane(dialect) { plane async throws -> Void in
      let id = try await plane.create().id
      let (first, second) = (
        try await plane.snapshots.create(from: id, name: nil, for: plane.caller),
        try await plane.snapshots.create(from: id, name: nil, for: plane.caller)
      )
      #expect(first.name.value.wholeMatch(of: /snap-[0-9a-f]{8}/) != nil)
      #expect(first.name != second.name)
    }
  }

  @Test(
    "a snapshot that fails releases its name; a replacement that fails keeps the old snapshot",
    arguments: SQLDialect.allCases)
  func failure(dialect: SQLDialect) async throws {
    try await withPlane(dialect) { plane async throws -> Void in
      let id = try await plane.create().id
      let golden = try name("golden")
      await plane.host.put("/f", ByteBuffer(string: "old"), in: id)
      for code in [ErrorCode.insufficientStorage, .agentError] {
        await plane.host.fail(.snapshot, with: MartletError(code, "no"))
        let failure = await ControlPlaneTests.code {
          _ = try await plane.snapshots.create(from: id, name: golden, for: plane.caller)
        }
        #expect(failure == code)
        #expect(try await plane.snapshotRepository.all().isEmpty)
      }
      await plane.host.fail(.snapshot, with: nil)
      let old = try await plane.snapshots.create(from: id, name: golden, for: plane.caller)
      await plane.host.put("/f", ByteBuffer(string: "new"), in: id)
      await plane.host.fail(.snapshot, with: MartletError(.insufficientStorage, "no"))
      #expect(
        await code { _ = try await plane.snapshots.create(from: id, name: golden, overwrites: true, for: plane.caller) }
          == .insufficientStorage)
      let kept = try #require(try await plane.snapshotRepository.snapshot(golden, team: plane.caller.teamID))
      #expect(kept.status == .ready && kept.createdAt == old.createdAt)
      let made = try await plane.create { $0.template = golden }
      #expect(await plane.host.file("/f", in: made.id) == ByteBuffer(string: "old"))
    }
  }

  @Test(
    "beyond the team's quota a snapshot is refused with a sentence, and deleting one frees quota",
    arguments: SQLDialect.allCases)
  func quota(dialect: SQLDialect) async throws {
    var identity = IdentityConfiguration.forTests
    identity.quota = QuotaRecord(snapshots: 1)
    try await withPlane(dialect, identity: identity) { plane async throws -> Void in
      let id = try await plane.create().id
      let first = try await plane.snapshots.create(from: id, name: nil, for: plane.caller).name
      let error = await #expect(throws: MartletError.self) {
        _ = try await plane.snapshots.create(from: id, name: nil, for: plane.caller)
      }
      #expect(error?.code == .quotaExceeded && error?.message.contains("delete snapshots") == true)
      #expect(await plane.host.snapshotNames.count == 1)
      // Replacing a snapshot needs no further quota.
      _ = try await plane.snapshots.create(from: id, name: first, overwrites: true, for: plane.caller)
      try await plane.snapshots.delete(first, for: plane.caller)
      _ = try await plane.snapshots.create(from: id, name: nil, for: plane.caller)
    }
  }

  @Test("of many racing snapshots of one name one succeeds", arguments: SQLDialect.allCases)
  func racing(dialect: SQLDialect) async throws {
    try await withPlane(dialect) { plane async throws -> Void in
      let golden = try name("golden")
      var sources: [SandboxID] = []
      for _ in 0..<8 { sources.append(try await plane.create().id) }
      let outcomes = await withTaskGroup(of: ErrorCode?.self) { group in
        for id in sources {
          group.addTask {
            await code { _ = try await plane.snapshots.create(from: id, name: golden, for: plane.caller) }
          }
        }
        return await group.reduce(into: []) { $0.append($1) }
      }
      #expect(outcomes.count { $0 == nil } == 1)
      #expect(outcomes.allSatisfy { $0 == nil || $0 == .alreadyExists })
    }
  }

  @Test(
    "a deleted snapshot is invisible at once, and sandboxes created from it continue to run",
    arguments: SQLDialect.allCases)
  func delete(dialect: SQLDialect) async throws {
    try await withPlane(dialect) { plane async throws -> Void in
      let id = try await plane.create().id
      let golden = try await plane.snapshots.create(from: id, name: try name("golden"), for: plane.caller).name
      let child = try await plane.create { $0.template = golden }.id
      _ = try await plane.service.pause(child, for: plane.caller)
      try await plane.snapshots.delete(golden, for: plane.caller)
      #expect(try await names(plane).isEmpty)
      #expect(await plane.host.snapshotNames.isEmpty)
      #expect(await code { try await plane.snapshots.delete(golden, for: plane.caller) } == .notFound)
      #expect(await code { _ = try await plane.create { $0.template = golden } } == .notFound)
      #expect(try await plane.service.resume(child, for: plane.caller).record.status == .running)
    }
  }

  @Test(
    "deleting a team during a snapshot leaves neither row nor files",
    arguments: [true, false],
    SQLDialect.allCases)
  func teamDeletedMeanwhile(rowIsGone: Bool, dialect: SQLDialect) async throws {
    try await withPlane(dialect) { plane async throws -> Void in
      let owner = try await plane.signUp("a@b.c").caller
      let id = try await plane.service.create(NewSandbox(), for: owner).record.id
      await plane.host.delay(.snapshot, by: .milliseconds(300))
      let golden = try name("golden")
      async let refusal = code { _ = try await plane.snapshots.create(from: id, name: golden, for: owner) }
      #expect(try await eventually { try await !plane.snapshotRepository.all().isEmpty })
      try await plane.control.teams.delete(owner.teamID, for: owner)
      if rowIsGone, let row = try await plane.snapshotRepository.snapshot(golden, team: owner.teamID) {
        // Another control plane ran the deletion before the files existed.
        #expect(try await plane.snapshotRepository.remove(row))
      }
      let code = await refusal
      #expect(code == .noTeam || code == .notFound)
      #expect(
        try await plane.reconcile {
          let (names, rows) = (await plane.host.snapshotNames, try await plane.snapshotRepository.all())
          return names.isEmpty && rows.isEmpty
        })
      plane.clock.advance(by: Monitor.snapshotInterval + 1)
      for _ in 0..<3 { await plane.control.monitor.tick() }
      #expect(try await plane.snapshotRepository.all().isEmpty)
      #expect(await plane.host.snapshotNames.isEmpty)
    }
  }

  @Test("snapshot files of a deleted team are removed, not adopted", arguments: SQLDialect.allCases)
  func filesOfDeletedTeam(dialect: SQLDialect) async throws {
    try await withPlane(dialect) { plane async throws -> Void in
      let owner = try await plane.signUp("a@b.c").caller
      try await plane.control.teams.delete(owner.teamID, for: owner)
      await plane.host.setSnapshot(try name("late"), team: owner.teamID, files: [:])
      #expect(try await plane.reconcile { await plane.host.snapshotNames.isEmpty })
      #expect(try await plane.snapshotRepository.all().isEmpty)
    }
  }

  @Test(
    "a deletion is not finished before the host that stores the files has confirmed", arguments: SQLDialect.allCases)
  func deleteWithUnknownHost(dialect: SQLDialect) async throws {
    try await withPlane(dialect) { plane async throws -> Void in
      let golden = try name("golden")
      let row = SnapshotRecord(
        teamID: plane.caller.teamID, name: golden, status: .ready, vcpus: 1, memoryMiB: 512, diskSizeMiB: 5_120,
        hostID: HostID(),
        createdAt: plane.clock.now)
      #expect(try await plane.snapshotRepository.insert(row))
      try await plane.snapshots.delete(golden, for: plane.caller)
      #expect(try await plane.snapshotRepository.snapshot(golden, team: plane.caller.teamID)?.status == .deleting)
    }
  }

  @Test("deleting a template of the platform is forbidden, and changes nothing", arguments: SQLDialect.allCases)
  func platform(dialect: SQLDialect) async throws {
    try await withPlane(dialect) { plane async throws -> Void in
      #expect(await code { try await plane.snapshots.delete(.base, for: plane.caller) } == .forbidden)
      let admin = Caller(principal: Principal(kind: .user(UserID()), teamID: .platform))
      #expect(await code { try await plane.snapshots.delete(.base, for: admin) } == .forbidden)
      #expect(await plane.host.calls[.deleteSnapshot] == nil)
      #expect(await plane.host.templates.count == 2)
    }
  }

  @Test(
    "a deletion during an outage of the host is finished when it is back, and the name is reserved until then",
    arguments: SQLDialect.allCases)
  func deleteWithoutHost(dialect: SQLDialect) async throws {
    try await withPlane(dialect) { plane async throws -> Void in
      let id = try await plane.create().id
      let golden = try await plane.snapshots.create(from: id, name: try name("golden"), for: plane.caller).name
      await plane.host.fail(.deleteSnapshot, with: MartletError(.hostUnavailable, "away"))
      try await plane.snapshots.delete(golden, for: plane.caller)
      #expect(try await names(plane).isEmpty)
      #expect(await code { _ = try await plane.create { $0.template = golden } } == .notFound)
      #expect(await code { _ = try await plane.snapshots.create(from: id, name: golden, for: plane.caller) } == .inUse)
      await plane.host.fail(.deleteSnapshot, with: nil)
      #expect(try await plane.reconcile { try await plane.snapshotRepository.all().isEmpty })
      #expect(await plane.host.snapshotNames.isEmpty)
      _ = try await plane.snapshots.create(from: id, name: golden, for: plane.caller)
    }
  }

  @Test("the list contains both kinds, and has filters and pages with a cursor", arguments: SQLDialect.allCases)
  func list(dialect: SQLDialect) async throws {
    try await withPlane(dialect) { plane async throws -> Void in
      let id = try await plane.create().id
      for text in ["a1", "b2", "z3"] {
        _ = try await plane.snapshots.create(from: id, name: try name(text), for: plane.caller)
      }
      #expect(try await names(plane) == ["a1", "b2", "z3"])
      #expect(try await names(plane, .base) == ["base", "minimal"])
      var seen: [String] = []
      var cursor: SafeName?
      repeat {
        let (page, next) = try await plane.snapshots.list(nil, after: cursor, limit: 2, for: plane.caller)
        seen += page.map(\.name.value)
        cursor = next
      } while cursor != nil
      #expect(seen == ["a1", "b2", "base", "minimal", "z3"])
      let outsider = Caller(principal: Principal(kind: .user(UserID()), teamID: TeamID()))
      #expect(try await plane.snapshots.list(.snapshot, limit: 10, for: outsider).page.isEmpty)
      #expect(await code { try await plane.snapshots.delete(try name("a1"), for: outsider) } == .notFound)
    }
  }

  @Test(
    "sandboxes are created on the host that stores the snapshot, although there are other hosts",
    arguments: SQLDialect.allCases)
  func placement(dialect: SQLDialect) async throws {
    let other = SimulatedHost()
    try await withPlane(dialect, otherHosts: [other]) { plane async throws -> Void in
      let id = try await plane.create().id
      let record = try #require(try await plane.repository.sandbox(id))
      let golden = try await plane.snapshots.create(from: id, name: try name("golden"), for: plane.caller).name
      for _ in 0..<4 {
        #expect(try await plane.create { $0.template = golden }.facts.hostID == record.facts.hostID)
      }
    }
  }

  @Test(
    "a replacement on another host moves the snapshot there, and removes the old copy", arguments: SQLDialect.allCases)
  func movesHost(dialect: SQLDialect) async throws {
    let other = SimulatedHost()
    try await withPlane(dialect, otherHosts: [other]) { plane async throws -> Void in
      let golden = try name("golden")
      var byHost: [HostID: SandboxID] = [:]
      for _ in 0..<4 {
        let record = try await plane.create()
        byHost[try #require(record.facts.hostID)] = record.id
      }
      let (here, there) = (try #require(byHost[plane.host.hostID]), try #require(byHost[other.hostID]))
      _ = try await plane.snapshots.create(from: here, name: golden, for: plane.caller)
      let moved = try await plane.snapshots.create(from: there, name: golden, overwrites: true, for: plane.caller)
      #expect(moved.hostID == other.hostID)
      #expect(await plane.host.snapshotNames.isEmpty)
      #expect(await other.snapshotNames == ["golden"])
      #expect(try await names(plane) == ["golden"])
      #expect(try await plane.create { $0.template = golden }.facts.hostID == other.hostID)
    }
  }

  @Test("every change is in the audit log", arguments: SQLDialect.allCases)
  func auditLog(dialect: SQLDialect) async throws {
    try await withPlane(dialect) { plane async throws -> Void in
      let id = try await plane.create().id
      let golden = try await plane.snapshots.create(from: id, name: try name("golden"), for: plane.caller).name
      try await plane.snapshots.delete(golden, for: plane.caller)
      _ = try await plane.service.pause(id, for: plane.caller)
      _ = try await plane.service.fork(id, count: 1, for: plane.caller)
      _ = try await plane.service.setTimeout(4, of: id, for: plane.caller)
      _ = try await plane.service.resume(id, for: plane.caller)
      await plane.control.housekeeping.flush()
      let log = try await AuditRepository(database: plane.database).list(team: plane.caller.teamID, limit: 100)
      let lines = Set(log.map { "\($0.record.action) \($0.record.outcome)" })
      for action in ["snapshot.create", "sandbox.pause", "sandbox.resume", "sandbox.fork"] {
        #expect(lines.contains("\(action) accepted") && lines.contains("\(action) ok"))
      }
      #expect(lines.contains("snapshot.delete ok") && lines.contains("sandbox.timeout ok"))
    }
  }
}
