import Foundation
import Model
import Persistence
import Testing

@Suite struct SandboxRepositoryTests {
  private func insert(
    _ repository: SandboxRepository, _ team: TeamID, metadata: [String: String] = [:], at time: Date = Date()
  ) async throws -> SandboxRecord {
    let record = SandboxRecord(spec: SandboxSpec(teamID: team, metadata: metadata), createdAt: time)
    try await repository.insert(record, audit: audit(team, "sandbox.create"))
    return record
  }

  @Test("a sandbox is read as it was inserted", arguments: SQLDialect.allCases)
  func roundTrip(dialect: SQLDialect) async throws {
    try await withDatabase(dialect) { database async throws -> Void in
      let team = try await makeTeam(database)
      let repository = SandboxRepository(database: database)
      var record = SandboxRecord(
        spec: SandboxSpec(
          teamID: team, template: .base, vcpus: 3, memoryMiB: 1024, diskSizeMiB: 2048, timeoutSeconds: 60,
          metadata: ["a": "\"quoted\" ü", "b": ""], envs: ["PATH": "/bin"],
          network: NetworkPolicy(allowsEgress: false, allow: ["10.0.0.0/8"], deny: ["1.1.1.1/32"]), isSecured: false),
        autoResumes: true, isAutoPaused: true, createdAt: Date(), lastActiveAt: Date(), revision: 7)
      record.facts = SandboxFacts(
        hostID: HostID(), guestIP: "169.254.0.21", hostIP: "10.11.0.2", vmm: "qemu", accelerator: "tcg",
        startedAt: Date())
      try await repository.insert(record, audit: audit(team))
      record.worker = database.worker
      #expect(try await repository.sandbox(record.id, team: team) == record)
    }
  }

  @Test("another team's sandbox is not found", arguments: SQLDialect.allCases)
  func teamScope(dialect: SQLDialect) async throws {
    try await withDatabase(dialect) { database async throws -> Void in
      let repository = SandboxRepository(database: database)
      let (one, two) = (try await makeTeam(database), try await makeTeam(database))
      let record = try await insert(repository, one)
      #expect(try await repository.sandbox(record.id, team: two) == nil)
      #expect(try await repository.list(SandboxFilter(limit: 10), team: two).isEmpty)
    }
  }

  @Test("of many racing transitions exactly one succeeds", arguments: SQLDialect.allCases)
  func compareAndSet(dialect: SQLDialect) async throws {
    try await withDatabase(dialect) { database async throws -> Void in
      let team = try await makeTeam(database)
      let repository = SandboxRepository(database: database)
      let record = try await insert(repository, team)
      let wins = try await withThrowingTaskGroup(of: Bool.self) { group in
        for _ in 0..<20 {
          group.addTask { try await repository.transition(record.id, from: .pending, to: .starting, at: Date()) }
        }
        return try await group.reduce(0) { $0 + ($1 ? 1 : 0) }
      }
      #expect(wins == 1)
    }
  }

  @Test("a transition from a state that the sandbox no longer has changes nothing", arguments: SQLDialect.allCases)
  func lostRace(dialect: SQLDialect) async throws {
    try await withDatabase(dialect) { database async throws -> Void in
      let team = try await makeTeam(database)
      let repository = SandboxRepository(database: database)
      let record = try await insert(repository, team)
      #expect(try await repository.transition(record.id, from: .pending, to: .destroying, at: Date()))
      #expect(
        try await repository.transition(
          record.id, from: .pending, to: .starting, at: Date(), audit: audit(team, "lost")) == false)
      #expect(try await repository.sandbox(record.id)?.status == .destroying)
      let actions = try await AuditRepository(database: database).list(team: team, limit: 10).map(\.record.action)
      #expect(actions == ["sandbox.create"])
    }
  }

  @Test("a decision about an old row is not applied to a newer one that looks the same", arguments: SQLDialect.allCases)
  func revisions(dialect: SQLDialect) async throws {
    try await withDatabase(dialect) { database async throws -> Void in
      let team = try await makeTeam(database)
      let repository = SandboxRepository(database: database)
      let id = try await insert(repository, team).id
      for (from, to) in [(SandboxStatus.pending, SandboxStatus.starting), (.starting, .running)] {
        #expect(try await repository.transition(id, from: from, to: to, at: Date()))
      }
      let read = try #require(try await repository.sandbox(id))
      for (from, to) in [(SandboxStatus.running, SandboxStatus.pausing), (.pausing, .running)] {
        #expect(try await repository.transition(id, from: from, to: to, at: Date()))
      }
      #expect(try await repository.apply(SandboxTransition(to: .paused, at: Date()), to: read) == false)
      let current = try #require(try await repository.sandbox(id))
      #expect(try await repository.apply(SandboxTransition(to: .paused, isAutoPaused: true, at: Date()), to: current))
      #expect(try await repository.sandbox(id)?.isAutoPaused == true)
      #expect(try await repository.transition(id, from: .paused, to: .resuming, at: Date()))
      #expect(try await repository.sandbox(id)?.isAutoPaused == true)
      #expect(try await repository.transition(id, from: .resuming, to: .running, at: Date()))
      #expect(try await repository.sandbox(id)?.isAutoPaused == false)
    }
  }

  @Test("the time-out changes only for the given team and state", arguments: SQLDialect.allCases)
  func timeout(dialect: SQLDialect) async throws {
    try await withDatabase(dialect) { database async throws -> Void in
      let team = try await makeTeam(database)
      let repository = SandboxRepository(database: database)
      let id = try await insert(repository, team).id
      #expect(try await repository.setTimeout(5, of: id, team: TeamID(), in: .pending, at: Date()) == nil)
      #expect(try await repository.setTimeout(5, of: id, team: team, in: .running, at: Date()) == nil)
      #expect(try await repository.setTimeout(5, of: id, team: team, in: .pending, at: Date()) == 1)
      let read = try #require(try await repository.sandbox(id))
      #expect(read.spec.timeoutSeconds == 5 && read.revision == 1)
      #expect(try await repository.setTimeout(6, of: id, team: team, in: .pending, revision: 0, at: Date()) == nil)
      #expect(try await repository.setTimeout(6, of: id, team: team, in: .pending, revision: 1, at: Date()) == 2)
      // A caller that has read the old time-out finds the row changed.
      #expect(try await repository.apply(SandboxTransition(to: .starting, at: Date()), to: read) == false)
    }
  }

  @Test("unfinished sandboxes are counted by status", arguments: SQLDialect.allCases)
  func counts(dialect: SQLDialect) async throws {
    try await withDatabase(dialect) { database async throws -> Void in
      let team = try await makeTeam(database)
      let repository = SandboxRepository(database: database)
      for _ in 0..<3 { _ = try await insert(repository, team) }
      let failed = try await insert(repository, team)
      _ = try await repository.transition(failed.id, from: .pending, to: .error, at: Date())
      #expect(try await repository.countsByStatus() == [.pending: 3])
    }
  }

  @Test("pages follow each other without gap or repetition, newest first", arguments: SQLDialect.allCases)
  func paging(dialect: SQLDialect) async throws {
    try await withDatabase(dialect) { database async throws -> Void in
      let team = try await makeTeam(database)
      let repository = SandboxRepository(database: database)
      // Pairs have the same time, so the id must break the tie.
      for index in 0..<10 {
        _ = try await insert(repository, team, at: Date(timeIntervalSince1970: Double(1_000 + index / 2)))
      }
      var seen: [SandboxID] = []
      var cursor: SandboxCursor?
      while true {
        let page = try await repository.list(SandboxFilter(limit: 3, after: cursor), team: team)
        guard let last = page.last else { break }
        seen += page.map(\.id)
        cursor = SandboxCursor(last)
      }
      #expect(seen.count == 10)
      #expect(Set(seen).count == 10)
      let times = try await repository.list(SandboxFilter(limit: 100), team: team).map(\.createdAt)
      #expect(times == times.sorted(by: >))
    }
  }

  @Test("the list omits finished sandboxes unless they are requested", arguments: SQLDialect.allCases)
  func statusFilter(dialect: SQLDialect) async throws {
    try await withDatabase(dialect) { database async throws -> Void in
      let team = try await makeTeam(database)
      let repository = SandboxRepository(database: database)
      let alive = try await insert(repository, team)
      let broken = try await insert(repository, team)
      _ = try await repository.transition(broken.id, from: .pending, to: .error, error: "why", at: Date())
      #expect(try await repository.list(SandboxFilter(limit: 10), team: team).map(\.id) == [alive.id])
      let errors = try await repository.list(SandboxFilter(statuses: [.error], limit: 10), team: team)
      #expect(errors.map(\.error) == ["why"])
      #expect(try await repository.alive().map(\.id) == [alive.id])
    }
  }

  @Test(
    "the metadata filter requires every pair, and takes unusual characters literally", arguments: SQLDialect.allCases)
  func metadataFilter(dialect: SQLDialect) async throws {
    try await withDatabase(dialect) { database async throws -> Void in
      let team = try await makeTeam(database)
      let repository = SandboxRepository(database: database)
      let wanted = try await insert(repository, team, metadata: ["user": "a'b\"c%_", "app": "x"])
      _ = try await insert(repository, team, metadata: ["user": "other", "app": "x"])
      let filter = SandboxFilter(metadata: ["user": "a'b\"c%_", "app": "x"], limit: 10)
      #expect(try await repository.list(filter, team: team).map(\.id) == [wanted.id])
      #expect(try await repository.list(SandboxFilter(metadata: ["app": "x"], limit: 10), team: team).count == 2)
      #expect(try await repository.list(SandboxFilter(metadata: ["$.app": "x"], limit: 10), team: team).isEmpty)
    }
  }

  @Test("activity moves forward only", arguments: SQLDialect.allCases)
  func touch(dialect: SQLDialect) async throws {
    try await withDatabase(dialect) { database async throws -> Void in
      let team = try await makeTeam(database)
      let repository = SandboxRepository(database: database)
      let record = try await insert(repository, team)
      let (early, late) = (Date(timeIntervalSince1970: 1_000), Date(timeIntervalSince1970: 2_000))
      try await repository.touch([record.id: late])
      try await repository.touch([record.id: early])
      #expect(try await repository.sandbox(record.id)?.lastActiveAt == late)
    }
  }
}
