import Foundation
import Model
import Persistence
import Testing

/// A team with an owner and a member, in a new database.
private struct TeamFixture {
  let database: any Database
  let team: TeamID
  let owner: UserID
  let member: UserID

  var teams: TeamRepository { TeamRepository(database: database) }
  var people: PeopleRepository { PeopleRepository(database: database) }
  var sandboxes: SandboxRepository { SandboxRepository(database: database) }

  func record(_ change: (inout SandboxSpec) -> Void = { _ in }) -> (record: SandboxRecord, audit: AuditRecord) {
    var spec = SandboxSpec(teamID: team)
    change(&spec)
    return (SandboxRecord(spec: spec, createdAt: Date()), audit(team))
  }

  func refusal(_ work: () async throws -> Void) async throws -> AdmissionRefusal? {
    do {
      try await work()
      return nil
    } catch let refusal as AdmissionRefusal {
      return refusal
    }
  }
}

private func sign(_ email: String, _ database: any Database, isAdmin: Bool = false) async throws -> (UserID, TeamID) {
  let team = TeamRecord(name: "t", createdAt: Date())
  let user = UserRecord(email: email, name: "N", passwordHash: "x", isAdmin: isAdmin, createdAt: Date())
  _ = try await PeopleRepository(database: database).insert(
    user: user, team: team,
    membership: MembershipRecord(teamID: team.id, userID: user.id, role: .owner, isDefault: true, joinedAt: Date()),
    key: nil,
    audit: [audit(team.id)])
  return (user.id, team.id)
}

private func withTeam(_ dialect: SQLDialect, _ body: (TeamFixture) async throws -> Void) async throws {
  try await withDatabase(dialect) { database async throws -> Void in
    let (owner, team) = try await sign("owner@b.c", database)
    let (member, _) = try await sign("member@b.c", database)
    let fixture = TeamFixture(database: database, team: team, owner: owner, member: member)
    let membership = MembershipRecord(teamID: team, userID: member, role: .member, isDefault: false, joinedAt: Date())
    #expect(
      try await fixture.teams.addMember(membership, maximumMembers: 5, maximumTeams: 5, audit: audit(team)) == .done)
    try await body(fixture)
  }
}

@Suite struct TeamRepositoryTests {
  @Test("a user's rights are one read, which returns the present state", arguments: SQLDialect.allCases)
  func accessIsCurrent(dialect: SQLDialect) async throws {
    try await withTeam(dialect) { fixture async throws -> Void in
      #expect(try await fixture.people.access(of: fixture.member, in: fixture.team)?.role == .member)
      #expect(try await fixture.people.access(of: fixture.owner, in: fixture.team)?.role == .owner)
      #expect(try await fixture.people.access(of: UserID(), in: fixture.team) == nil)
      #expect(
        try await fixture.teams.removeMember(fixture.member, of: fixture.team, audit: audit(fixture.team)) == .done)
      let access = try #require(try await fixture.people.access(of: fixture.member, in: fixture.team))
      #expect(access.role == nil)
      #expect(
        try await fixture.people.setPassword(fixture.member, hash: "y", replacing: "x", audit: audit(fixture.team)))
      #expect(
        try await fixture.people.access(of: fixture.member, in: fixture.team)?.sessionEpoch == access.sessionEpoch + 1)
      #expect(
        try await fixture.people.setPassword(fixture.member, hash: "z", replacing: "x", audit: audit(fixture.team))
          == false)
    }
  }

  @Test(
    "the owner can be neither removed nor demoted, only replaced, and a team always has one owner",
    arguments: SQLDialect.allCases)
  func owner(dialect: SQLDialect) async throws {
    try await withTeam(dialect) { fixture async throws -> Void in
      let (team, log) = (fixture.team, audit(fixture.team))
      #expect(try await fixture.teams.removeMember(fixture.owner, of: team, audit: log) == .isOwner)
      #expect(try await fixture.teams.setRole(fixture.owner, of: team, to: .member, audit: log) == .isOwner)
      #expect(try await fixture.teams.setRole(UserID(), of: team, to: .admin, audit: log) == .absent)
      await #expect(throws: AuthorizationRefusal.lacksRole) {
        try await fixture.teams.transferOwnership(of: team, from: fixture.member, to: fixture.owner, audit: log)
      }
      #expect(
        try await fixture.teams.transferOwnership(of: team, from: fixture.owner, to: fixture.member, audit: log)
          == .done)
      let roles = try await fixture.teams.members(of: team, ListPage(limit: 10)).map { [$0.user: $0.role] }
      #expect(roles.contains([fixture.member: .owner]) && roles.contains([fixture.owner: .admin]) && roles.count == 2)
    }
  }

  @Test(
    "members per team and teams per user are bounded, and no user is a member twice", arguments: SQLDialect.allCases)
  func bounds(dialect: SQLDialect) async throws {
    try await withTeam(dialect) { fixture async throws -> Void in
      let (third, _) = try await sign("third@b.c", fixture.database)
      let membership = MembershipRecord(
        teamID: fixture.team, userID: third, role: .member, isDefault: false, joinedAt: Date())
      let again = MembershipRecord(
        teamID: fixture.team, userID: fixture.member, role: .owner, isDefault: false, joinedAt: Date())
      #expect(
        try await fixture.teams.addMember(again, maximumMembers: 5, maximumTeams: 5, audit: audit(fixture.team))
          == .alreadyMember)
      #expect(
        try await fixture.teams.addMember(membership, maximumMembers: 2, maximumTeams: 5, audit: audit(fixture.team))
          == .full
      )
      #expect(
        try await fixture.teams.addMember(membership, maximumMembers: 5, maximumTeams: 1, audit: audit(fixture.team))
          == .full
      )
      let team = TeamRecord(name: "second", createdAt: Date())
      let owner = MembershipRecord(teamID: team.id, userID: third, role: .owner, isDefault: false, joinedAt: Date())
      #expect(try await fixture.teams.create(team, owner: owner, maximumTeams: 1, audit: audit(team.id)) == false)
      #expect(try await fixture.teams.create(team, owner: owner, maximumTeams: 2, audit: audit(team.id)))
    }
  }

  @Test("removing a member deletes the keys that they created, and no others", arguments: SQLDialect.allCases)
  func keysOfMembers(dialect: SQLDialect) async throws {
    try await withTeam(dialect) { fixture async throws -> Void in
      let keys = APIKeyRepository(database: fixture.database)
      for (byte, user) in [(UInt8(1), fixture.owner), (2, fixture.member)] {
        let key = APIKeyRecord(
          teamID: fixture.team, name: "k", keyPrefix: "mrt_", keyHash: [byte], createdBy: user, createdAt: Date())
        #expect(try await keys.insert(key, maximum: 2, audit: audit(fixture.team)))
      }
      let third = APIKeyRecord(
        teamID: fixture.team, name: "k", keyPrefix: "mrt_", keyHash: [3], createdBy: nil, createdAt: Date())
      #expect(try await keys.insert(third, maximum: 2, audit: audit(fixture.team)) == false)
      _ = try await fixture.teams.removeMember(fixture.member, of: fixture.team, audit: audit(fixture.team))
      #expect(try await keys.list(team: fixture.team).map(\.createdBy) == [fixture.owner])
      #expect(try await keys.key(hash: [2]) == nil)
    }
  }

  @Test(
    "deleting a team deletes its members and keys and marks its sandboxes as destroying", arguments: SQLDialect.allCases
  )
  func deletion(dialect: SQLDialect) async throws {
    try await withTeam(dialect) { fixture async throws -> Void in
      let entry = fixture.record()
      try await fixture.sandboxes.admit([entry], defaults: QuotaRecord())
      let key = APIKeyRecord(
        teamID: fixture.team, name: "k", keyPrefix: "mrt_", keyHash: [9], createdBy: nil, createdAt: Date())
      #expect(try await APIKeyRepository(database: fixture.database).insert(key, audit: audit(fixture.team)))
      let destroying = try await fixture.teams.delete(
        fixture.team, at: Date(), audit: audit(fixture.team, "team.delete"))
      #expect(destroying?.map(\.id) == [entry.record.id])
      #expect(destroying?.first?.status == .destroying)
      #expect(try await fixture.teams.delete(fixture.team, at: Date(), audit: audit(fixture.team)) == nil)
      #expect(try await fixture.teams.team(fixture.team) == nil)
      #expect(try await fixture.teams.memberships(of: fixture.member).map(\.team.id).contains(fixture.team) == false)
      #expect(try await APIKeyRepository(database: fixture.database).key(hash: [9]) == nil)
      #expect(
        try await fixture.refusal { try await fixture.sandboxes.admit([fixture.record()], defaults: QuotaRecord()) }
          == .teamIsGone)
      #expect(try await APIKeyRepository(database: fixture.database).insert(key, audit: audit(fixture.team)) == false)
      let log = try await AuditRepository(database: fixture.database).list(team: fixture.team, AuditFilter(limit: 10))
      #expect(log.prefix(2).map(\.record.action) == ["sandbox.destroy", "team.delete"])
    }
  }

  @Test("only the given columns of a profile change", arguments: SQLDialect.allCases)
  func profile(dialect: SQLDialect) async throws {
    try await withTeam(dialect) { fixture async throws -> Void in
      let (people, id, log) = (fixture.people, fixture.member, audit(fixture.team))
      #expect(try await people.setProfile(id, email: "new@b.c", name: nil, audit: log))
      #expect(try await people.setProfile(id, email: nil, name: "New", audit: log))
      #expect(try await people.setProfile(id, email: nil, name: nil, audit: log))
      let user = try #require(try await people.user(id))
      #expect(user.email == "new@b.c" && user.name == "New")
      #expect(try await people.setProfile(UserID(), email: nil, name: nil, audit: log) == false)
      await #expect(throws: PersistenceError.self) {
        try await people.setProfile(id, email: "owner@b.c", name: "Other", audit: log)
      }
      #expect(try await people.user(id) == user)
    }
  }

  @Test("the last administrator cannot be demoted", arguments: SQLDialect.allCases)
  func lastAdministrator(dialect: SQLDialect) async throws {
    try await withTeam(dialect) { fixture async throws -> Void in
      let (admin, _) = try await sign("admin@b.c", fixture.database, isAdmin: true)
      #expect(try await fixture.people.setAdmin(admin, false, audit: audit(fixture.team)) == false)
      #expect(try await fixture.people.setAdmin(fixture.owner, true, audit: audit(fixture.team)))
      #expect(try await fixture.people.setAdmin(admin, false, audit: audit(fixture.team)))
      #expect(try await fixture.people.user(admin)?.isAdmin == false)
    }
  }

  @Test("the pages together are the whole list", arguments: SQLDialect.allCases)
  func pages(dialect: SQLDialect) async throws {
    try await withTeam(dialect) { fixture async throws -> Void in
      var seen: [UserID] = []
      var after: ListPosition?
      while true {
        let page = try await fixture.people.users(ListPage(limit: 1, after: after))
        guard let user = page.first else { break }
        seen.append(user.id)
        after = ListPosition(user.createdAt, user.id.uuid)
      }
      #expect(seen == [fixture.owner, fixture.member])
    }
  }
}

@Suite struct AdmissionTests {
  @Test(
    "each quota is enforced, and the error names it with the used and the requested amount",
    arguments: [
      (QuotaRecord(sandboxes: 1), AdmissionRefusal.quota(what: "max_sandboxes", limit: 1, used: 1, requested: 1)),
      (QuotaRecord(vcpus: 3), .quota(what: "max_vcpus", limit: 3, used: 2, requested: 2)),
      (QuotaRecord(memoryMiB: 1_000), .quota(what: "max_memory_mb", limit: 1_000, used: 512, requested: 512)),
      (QuotaRecord(diskMiB: 6_000), .quota(what: "max_disk_mb", limit: 6_000, used: 5_120, requested: 5_120)),
    ], SQLDialect.allCases)
  func quota(_ refused: (quota: QuotaRecord, as: AdmissionRefusal), _ dialect: SQLDialect) async throws {
    let (quota, expected) = refused
    try await withTeam(dialect) { fixture async throws -> Void in
      try await fixture.sandboxes.admit([fixture.record { $0.vcpus = 2 }], defaults: quota)
      let second = fixture.record { $0.vcpus = 2 }
      #expect(try await fixture.refusal { try await fixture.sandboxes.admit([second], defaults: quota) } == expected)
      #expect(try await fixture.sandboxes.sandbox(second.record.id) == nil)
      // The team's own quota takes precedence over the server's.
      let own = QuotaRecord(sandboxes: 9, vcpus: 99, memoryMiB: 99_999, diskMiB: 99_999)
      #expect(try await fixture.teams.setQuota(fixture.team, own, audit: audit(fixture.team)))
      try await fixture.sandboxes.admit([second], defaults: quota)
      #expect(
        try await fixture.sandboxes.usage(of: fixture.team)
          == TeamUsage(sandboxes: 2, vcpus: 4, memoryMiB: 1_024, diskMiB: 10_240))
    }
  }

  @Test("concurrent creates cannot exceed the quota together", arguments: SQLDialect.allCases)
  func concurrent(dialect: SQLDialect) async throws {
    try await withTeam(dialect) { fixture async throws -> Void in
      let admitted = await withTaskGroup(of: Bool.self) { group in
        for _ in 0..<20 {
          let entry = fixture.record()
          group.addTask { (try? await fixture.sandboxes.admit([entry], defaults: QuotaRecord(sandboxes: 3))) != nil }
        }
        return await group.reduce(into: 0) { $0 += $1 ? 1 : 0 }
      }
      #expect(admitted == 3)
    }
  }

  @Test(
    "finished sandboxes use no quota, paused ones only disk; several are admitted all or none",
    arguments: SQLDialect.allCases)
  func states(dialect: SQLDialect) async throws {
    try await withTeam(dialect) { fixture async throws -> Void in
      let (over, paused) = (fixture.record(), fixture.record())
      let quota = QuotaRecord(sandboxes: 2)
      try await fixture.sandboxes.admit([over, paused], defaults: quota)
      #expect(try await fixture.sandboxes.transition(over.record.id, from: .pending, to: .error, at: Date()))
      for (status, next) in [
        (SandboxStatus.pending, SandboxStatus.starting), (.starting, .running), (.running, .paused),
      ] {
        #expect(try await fixture.sandboxes.transition(paused.record.id, from: status, to: next, at: Date()))
      }
      #expect(try await fixture.sandboxes.usage(of: fixture.team) == TeamUsage(diskMiB: 5_120 + 512))
      let three = (0..<3).map { _ in fixture.record() }
      #expect(try await fixture.refusal { try await fixture.sandboxes.admit(three, defaults: quota) } != nil)
      #expect(try await fixture.sandboxes.usage(of: fixture.team).sandboxes == 0)
      try await fixture.sandboxes.admit(Array(three.prefix(2)), defaults: quota)
    }
  }

  @Test(
    "a repeated request is refused with its first sandbox's id, and rolled back completely",
    arguments: SQLDialect.allCases)
  func repetition(dialect: SQLDialect) async throws {
    try await withTeam(dialect) { fixture async throws -> Void in
      let (first, second) = (fixture.record(), fixture.record())
      func request(_ entry: (record: SandboxRecord, audit: AuditRecord), at time: Date = Date()) -> IdempotencyRecord {
        IdempotencyRecord(teamID: fixture.team, key: "k", requestHash: [1], sandboxID: entry.record.id, createdAt: time)
      }
      let original = request(first)
      try await fixture.sandboxes.admit([first], defaults: QuotaRecord(), request: original, validity: 60)
      let refusal = try await fixture.refusal {
        try await fixture.sandboxes.admit([second], defaults: QuotaRecord(), request: request(second), validity: 60)
      }
      #expect(refusal == .repeated(original))
      #expect(try await fixture.sandboxes.sandbox(second.record.id) == nil)
      // Later the key can be used again.
      try await fixture.sandboxes.admit(
        [second], defaults: QuotaRecord(), request: request(second, at: Date(timeIntervalSinceNow: 61)), validity: 60)
      let known = try await fixture.sandboxes.earlierRequest(team: fixture.team, key: "k", since: .distantPast)
      #expect(known?.sandboxID == second.record.id)
      // So it can when its sandbox could not be created.
      #expect(try await fixture.sandboxes.transition(second.record.id, from: .pending, to: .error, at: Date()))
      #expect(try await fixture.sandboxes.earlierRequest(team: fixture.team, key: "k", since: .distantPast) == nil)
      let third = fixture.record()
      try await fixture.sandboxes.admit([third], defaults: QuotaRecord(), request: request(third), validity: 60)
      try await fixture.sandboxes.deleteRequests(before: Date(timeIntervalSinceNow: 1))
      #expect(try await fixture.sandboxes.earlierRequest(team: fixture.team, key: "k", since: .distantPast) == nil)
    }
  }

  @Test("the audit log is filtered by each of its columns", arguments: SQLDialect.allCases)
  func auditFilters(dialect: SQLDialect) async throws {
    try await withTeam(dialect) { fixture async throws -> Void in
      let log = AuditRepository(database: fixture.database)
      var row = audit(fixture.team, "x.y")
      row.targetID = "t"
      row.outcome = "forbidden"
      row.actorID = "someone"
      row.createdAt = Date(timeIntervalSince1970: 1_000)
      try await log.append([row])
      let filters = [
        AuditFilter(action: "x.y", limit: 9), AuditFilter(actorID: "someone", limit: 9),
        AuditFilter(targetID: "t", limit: 9),
        AuditFilter(outcome: "forbidden", limit: 9), AuditFilter(until: Date(timeIntervalSince1970: 1_001), limit: 9),
        AuditFilter(targetType: "sandbox", outcome: "forbidden", since: Date(timeIntervalSince1970: 1_000), limit: 9),
      ]
      for filter in filters { #expect(try await log.list(team: fixture.team, filter).map(\.record.action) == ["x.y"]) }
      #expect(try await log.list(team: fixture.team, AuditFilter(action: "x.y", outcome: "ok", limit: 9)).isEmpty)
    }
  }
}
