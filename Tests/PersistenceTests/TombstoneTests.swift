import Foundation
import Model
import Persistence
import TestSupport
import Testing

@Suite struct TombstoneTests {
  private func row(_ database: any Database, _ team: TeamID, _ status: SandboxStatus) async throws -> SandboxRecord {
    let record = SandboxRecord(spec: SandboxSpec(teamID: team), status: status, createdAt: Date())
    try await SandboxRepository(database: database).insert(record, audit: audit(team))
    return record
  }

  @Test(
    "a database has an installation id from its first migration; its copies have the same",
    arguments: SQLDialect.allCases)
  func installation(dialect: SQLDialect) async throws {
    let store = try await TestDatabase.make(dialect)
    let database = try store.connect()
    let repository = InstallationRepository(database: database)
    #expect(try await repository.condition() == .empty)
    let migrator = Migrator(database: database)
    try await migrator.migrateUp()
    let id = try await repository.id()
    #expect(try await repository.condition() == .named(id))
    let copy = try await store.copy()
    let restored = try copy.connect()
    #expect(try await InstallationRepository(database: restored).id() == id)
    try await restored.close()
    try await copy.remove()
    try await migrator.migrateDown(to: 9)
    #expect(try await repository.condition() == .unnamed)
    try await migrator.migrateUp()
    #expect(try await repository.id() != id)
    try await database.close()
    try await store.remove()
  }

  @Test("the migration leaves tombstones for everything that was over before", arguments: SQLDialect.allCases)
  func migration(dialect: SQLDialect) async throws {
    try await withDatabase(dialect) { database async throws -> Void in
      let team = try await makeTeam(database)
      let over = [
        try await row(database, team, .stopped), try await row(database, team, .error),
        try await row(database, team, .destroying),
      ]
      let alive = try await row(database, team, .paused)
      let migrator = Migrator(database: database)
      try await migrator.migrateDown(to: 9)
      try await migrator.migrateUp()
      let tombstones = TombstoneRepository(database: database)
      for record in over { #expect(try await tombstones.isDeleted(record.id)) }
      #expect(try await !tombstones.isDeleted(alive.id))
    }
  }

  @Test(
    "a destroy and a failed creation leave a tombstone, which outlives the row; a loss leaves none",
    arguments: SQLDialect.allCases)
  func transitions(dialect: SQLDialect) async throws {
    try await withDatabase(dialect) { database async throws -> Void in
      let team = try await makeTeam(database)
      let (repository, tombstones) = (SandboxRepository(database: database), TombstoneRepository(database: database))
      let steps: [(SandboxStatus, SandboxStatus, Bool)] = [
        (.running, .destroying, true), (.paused, .destroying, true), (.starting, .error, true),
        (.pending, .error, false), (.paused, .error, false), (.running, .stopped, false), (.running, .paused, false),
      ]
      for (before, next, leaves) in steps {
        let record = try await row(database, team, before)
        #expect(try await repository.transition(record.id, from: before, to: next, at: Date()))
        #expect(try await tombstones.isDeleted(record.id) == leaves, "\(before) → \(next)")
        _ = try await repository.deleteFinished(before: .distantFuture)
        #expect(try await tombstones.isDeleted(record.id) == leaves)
      }
      _ = try await tombstones.delete(before: Date().addingTimeInterval(-3_600))
      let last = try await row(database, team, .running)
      #expect(try await repository.transition(last.id, from: .running, to: .destroying, at: Date()))
      #expect(try await tombstones.delete(before: .distantFuture) >= 4)
      #expect(try await !tombstones.isDeleted(last.id))
    }
  }

  @Test(
    "a snapshot's tombstone names its moment: a newer one with the name is not deleted", arguments: SQLDialect.allCases)
  func snapshots(dialect: SQLDialect) async throws {
    try await withDatabase(dialect) { database async throws -> Void in
      let team = try await makeTeam(database)
      let (repository, tombstones) = (SnapshotRepository(database: database), TombstoneRepository(database: database))
      let name = try SafeName("golden")
      let first = SnapshotRecord(
        teamID: team, name: name, status: .ready, vcpus: 1, memoryMiB: 512, diskSizeMiB: 5_120, hostID: HostID(),
        createdAt: Date())
      #expect(try await repository.insert(first))
      var replacing = first
      replacing.status = .replacing
      #expect(try await repository.replace(first, with: replacing))
      #expect(try await !tombstones.isDeleted(name, team: team, createdAt: first.createdAt))
      let read = try #require(try await repository.snapshot(name, team: team))
      var second = read
      second.status = .ready
      second.createdAt = StoredTime.rounded(first.createdAt.addingTimeInterval(10))
      #expect(try await repository.replace(read, with: second))
      #expect(try await tombstones.isDeleted(name, team: team, createdAt: first.createdAt))
      #expect(try await !tombstones.isDeleted(name, team: team, createdAt: second.createdAt))
      let ready = try #require(try await repository.snapshot(name, team: team))
      var deleting = ready
      deleting.status = .deleting
      #expect(try await repository.replace(ready, with: deleting))
      #expect(try await tombstones.isDeleted(name, team: team, createdAt: second.createdAt))
      #expect(try await !tombstones.isDeleted(name, team: TeamID(), createdAt: second.createdAt))
    }
  }

  @Test("an adopted row replaces one that is over, and no other", arguments: SQLDialect.allCases)
  func adoption(dialect: SQLDialect) async throws {
    try await withDatabase(dialect) { database async throws -> Void in
      let team = try await makeTeam(database)
      let repository = SandboxRepository(database: database)
      for status in [SandboxStatus.stopped, .error] {
        var record = try await row(database, team, status)
        record.status = .paused
        try await repository.adopt(record, audit: audit(team))
        #expect(try await repository.sandbox(record.id)?.status == .paused)
        await #expect(throws: SandboxRepository.AdoptionRefusal.isKnown) {
          try await repository.adopt(record, audit: audit(team))
        }
      }
      let deleted = SandboxRecord(spec: SandboxSpec(teamID: team), status: .paused, createdAt: Date())
      try await TombstoneRepository(database: database).bury(deleted.id, team: team, at: Date())
      await #expect(throws: SandboxRepository.AdoptionRefusal.isDeleted) {
        try await repository.adopt(deleted, audit: audit(team))
      }
      let stranger = SandboxRecord(spec: SandboxSpec(teamID: TeamID()), status: .paused, createdAt: Date())
      await #expect(throws: SandboxRepository.AdoptionRefusal.teamIsGone) {
        try await repository.adopt(stranger, audit: audit(team))
      }
    }
  }

  @Test("a database knows a host by its row, or by its sandboxes", arguments: SQLDialect.allCases)
  func knownHosts(dialect: SQLDialect) async throws {
    try await withDatabase(dialect) { database async throws -> Void in
      let team = try await makeTeam(database)
      let repository = InstallationRepository(database: database)
      let record = try await row(database, team, .paused)
      #expect(try await !repository.knows(HostID(), holding: [SandboxID()]))
      #expect(try await repository.knows(HostID(), holding: [SandboxID(), record.id]))
      let host = HostRecord(
        id: HostID(), address: "127.0.0.1:1", secret: [UInt8](repeating: 1, count: 32), registeredAt: Date())
      try await HostRepository(database: database).register(host)
      #expect(try await repository.knows(host.id, holding: []))
    }
  }
}
