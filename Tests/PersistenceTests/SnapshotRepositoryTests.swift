import Foundation
import Model
import Persistence
import Testing

@Suite struct SnapshotRepositoryTests {
  private func record(
    _ team: TeamID, _ name: String = "golden", _ status: SnapshotRecord.Status = .ready
  ) throws -> SnapshotRecord {
    SnapshotRecord(
      teamID: team, name: try SafeName(name), status: status, vcpus: 2, memoryMiB: 256, diskSizeMiB: 1024,
      sizeBytes: 1 << 40,
      hostID: HostID(), sourceID: SandboxID(), createdAt: Date())
  }

  @Test("a snapshot is read as it was inserted, and only by its team", arguments: SQLDialect.allCases)
  func roundTrip(dialect: SQLDialect) async throws {
    try await withDatabase(dialect) { database async throws -> Void in
      let repository = SnapshotRepository(database: database)
      let (one, two) = (try await makeTeam(database), try await makeTeam(database))
      var record = try record(one)
      #expect(try await repository.insert(record, audit: audit(one)))
      record.worker = database.worker
      #expect(try await repository.snapshot(record.name, team: one) == record)
      #expect(try await repository.snapshot(record.name, team: two) == nil)
      #expect(try await repository.visible(record.name, to: two) == nil)
      #expect(try await repository.visible(to: two, limit: 10).isEmpty)
    }
  }

  @Test(
    "of many racing inserts of one name exactly one succeeds; other teams have their own names",
    arguments: SQLDialect.allCases)
  func racing(dialect: SQLDialect) async throws {
    try await withDatabase(dialect) { database async throws -> Void in
      let repository = SnapshotRepository(database: database)
      let (one, two) = (try await makeTeam(database), try await makeTeam(database))
      let wins = try await withThrowingTaskGroup(of: Bool.self) { group in
        for _ in 0..<20 {
          let record = try record(one)
          group.addTask { try await repository.insert(record) }
        }
        return try await group.reduce(0) { $0 + ($1 ? 1 : 0) }
      }
      #expect(wins == 1)
      #expect(try await repository.insert(try record(two)))
    }
  }

  @Test(
    "quotas bound the number and size of new snapshots, and do not apply to adopted ones",
    arguments: SQLDialect.allCases)
  func quota(dialect: SQLDialect) async throws {
    try await withDatabase(dialect) { database async throws -> Void in
      let repository = SnapshotRepository(database: database)
      let team = try await makeTeam(database)
      for name in ["a", "b"] {
        #expect(try await repository.insert(try record(team, name), quota: QuotaRecord(snapshots: 2)))
      }
      let usage = try await SandboxRepository(database: database).usage(of: team)
      #expect(usage == TeamUsage(diskMiB: 2 << 20, snapshots: 2))
      let third = try record(team, "c")
      await #expect(throws: AdmissionRefusal.quota(what: "max_snapshots", limit: 2, used: 2, requested: 1)) {
        try await repository.insert(third, quota: QuotaRecord(snapshots: 2))
      }
      await #expect(throws: AdmissionRefusal.quota(what: "max_disk_mb", limit: 2 << 20, used: 2 << 20, requested: 256))
      {
        try await repository.insert(third, quota: QuotaRecord(diskMiB: 2 << 20))
      }
      #expect(try await repository.insert(third))
      // The team's own quota takes precedence over the server's.
      let teams = TeamRepository(database: database)
      #expect(try await teams.setQuota(team, QuotaRecord(snapshots: 4), audit: audit(team)))
      #expect(try await teams.team(team)?.quota == QuotaRecord(snapshots: 4))
      #expect(try await repository.insert(try record(team, "d"), quota: QuotaRecord(snapshots: 2)))
    }
  }

  @Test("a deleted team gets no snapshot, and its former ones stay invisible", arguments: SQLDialect.allCases)
  func deletedTeam(dialect: SQLDialect) async throws {
    try await withDatabase(dialect) { database async throws -> Void in
      let repository = SnapshotRepository(database: database)
      let team = try await makeTeam(database)
      let read = try record(team, "golden", .creating)
      #expect(try await repository.insert(read))
      _ = try await TeamRepository(database: database).delete(team, at: Date(), audit: audit(team))
      let row = try #require(try await repository.snapshot(read.name, team: team))
      #expect(row.status == .deleting)
      for status in [SnapshotRecord.Status.creating, .replacing, .ready] {
        var next = read
        next.status = status
        await #expect(throws: AdmissionRefusal.teamIsGone) { try await repository.replace(read, with: next) }
      }
      await #expect(throws: AdmissionRefusal.teamIsGone) { try await repository.insert(try record(team, "other")) }
      await #expect(throws: AdmissionRefusal.teamIsGone) { try await repository.insert(try record(TeamID())) }
      #expect(try await repository.all() == [row])
      #expect(try await repository.remove(row))
    }
  }

  @Test("a row that changed since it was read is neither replaced nor removed", arguments: SQLDialect.allCases)
  func compareAndSet(dialect: SQLDialect) async throws {
    try await withDatabase(dialect) { database async throws -> Void in
      let repository = SnapshotRepository(database: database)
      let team = try await makeTeam(database)
      let read = try record(team)
      _ = try await repository.insert(read)
      var next = read
      next.status = .deleting
      #expect(try await repository.replace(read, with: next))
      #expect(try await repository.replace(read, with: next, audit: audit(team, "lost")) == false)
      #expect(try await repository.remove(read) == false)
      let now = try #require(try await repository.snapshot(read.name, team: team))
      #expect(now.status == .deleting && now.revision == 1)
      #expect(try await repository.remove(now))
      #expect(try await AuditRepository(database: database).list(team: team, limit: 10).isEmpty)
    }
  }

  @Test("a later row with the same name is not mistaken for the removed one", arguments: SQLDialect.allCases)
  func sameNameAgain(dialect: SQLDialect) async throws {
    try await withDatabase(dialect) { database async throws -> Void in
      let repository = SnapshotRepository(database: database)
      let team = try await makeTeam(database)
      let old = try record(team)
      _ = try await repository.insert(old)
      #expect(try await repository.remove(old))
      var new = old
      new.createdAt = StoredTime.rounded(old.createdAt.addingTimeInterval(1))
      _ = try await repository.insert(new)
      #expect(try await repository.remove(old) == false)
    }
  }

  @Test("a team sees its own and the platform's snapshots, without those in transition", arguments: SQLDialect.allCases)
  func visible(dialect: SQLDialect) async throws {
    try await withDatabase(dialect) { database async throws -> Void in
      let repository = SnapshotRepository(database: database)
      let team = try await makeTeam(database)
      try await PeopleRepository(database: database).ensureTeam(
        TeamRecord(id: .platform, name: "platform", createdAt: Date()))
      for (text, status) in [("a", SnapshotRecord.Status.ready), ("b", .replacing), ("c", .creating), ("d", .deleting)]
      {
        _ = try await repository.insert(try record(team, text, status))
      }
      _ = try await repository.insert(try record(.platform, "a"))
      _ = try await repository.insert(try record(.platform, "e"))
      let seen = try await repository.visible(to: team, limit: 10)
      #expect(seen.map(\.name.value) == ["a", "a", "b", "e"])
      #expect(seen.first?.teamID == team)
      #expect(try await repository.visible(try SafeName("a"), to: team)?.teamID == team)
      #expect(try await repository.visible(try SafeName("e"), to: team)?.teamID == .platform)
      #expect(try await repository.visible(try SafeName("c"), to: team) == nil)
      #expect(try await repository.visible(to: team, after: try SafeName("a"), limit: 1).map(\.name.value) == ["b"])
      #expect(try await repository.inTransition().map(\.name.value).sorted() == ["b", "c", "d"])
    }
  }

  @Test("a snapshot of a team that does not exist is refused", arguments: SQLDialect.allCases)
  func unknownTeam(dialect: SQLDialect) async throws {
    try await withDatabase(dialect) { database async throws -> Void in
      await #expect(throws: AdmissionRefusal.self) {
        try await SnapshotRepository(database: database).insert(try record(TeamID()))
      }
    }
  }
}
