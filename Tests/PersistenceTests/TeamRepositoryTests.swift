import Foundation
import Model
import Persistence
import Testing

/// A team with an owner and a member, in a new database.
private struct Club {
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

private func withClub(_ dialect: SQLDialect, _ body: (Club) async throws -> Void) async throws {
  try await withDatabase(dialect) { database async throws -> Void in
    let (owner, team) = try await sign("owner@b.c", database)
    let (member, _) = try await sign("member@b.c", database)
    let club = Club(database: database, team: team, owner: owner, member: member)
    let membership = MembershipRecord(teamID: team, userID: member, role: .member, isDefault: false, joinedAt: Date())
    #expect(try await club.teams.addMember(membership, maximumMembers: 5, maximumTeams: 5, audit: audit(team)) == .done)
    try await body(club)
  }
}

@Suite struct TeamRepositoryTests {
  @Test("what decides about a user is one read, and says what is true now", arguments: SQLDialect.allCases)
  func standing(dialect: SQLDialect) async throws {
    try await withClub(dialect) { club async throws -> Void in
      #expect(try await club.people.access(of: club.member, in: club.team)?.role == .member)
      #expect(try await club.people.access(of: club.owner, in: club.team)?.role == .owner)
      #expect(try await club.people.access(of: UserID(), in: club.team) == nil)
      #expect(try await club.teams.removeMember(club.member, of: club.team, audit: audit(club.team)) == .done)
      let access = try #require(try await club.people.access(of: club.member, in: club.team))
      #expect(access.role == nil)
      #expect(try await club.people.setPassword(club.member, hash: "y", replacing: "x", audit: audit(club.team)))
      #expect(try await club.people.access(of: club.member, in: club.team)?.sessionEpoch == access.sessionEpoch + 1)
      #expect(
        try await club.people.setPassword(club.member, hash: "z", replacing: "x", audit: audit(club.team)) == false)
    }
  }

  @Test(
    "the owner can be neither removed nor demoted, only replaced, and then a team has one owner still",
    arguments: SQLDialect.allCases)
  func owner(dialect: SQLDialect) async throws {
    try await withClub(dialect) { club async throws -> Void in
      let (team, log) = (club.team, audit(club.team))
      #expect(try await club.teams.removeMember(club.owner, of: team, audit: log) == .isOwner)
      #expect(try await club.teams.setRole(club.owner, of: team, to: .member, audit: log) == .isOwner)
      #expect(try await club.teams.setRole(UserID(), of: team, to: .admin, audit: log) == .absent)
      #expect(
        try await club.teams.transferOwnership(of: team, from: club.member, to: club.owner, audit: log) == .absent)
      #expect(try await club.teams.transferOwnership(of: team, from: club.owner, to: club.member, audit: log) == .done)
      let roles = try await club.teams.members(of: team, ListPage(limit: 10)).map { [$0.user: $0.role] }
      #expect(roles.contains([club.member: .owner]) && roles.contains([club.owner: .admin]) && roles.count == 2)
    }
  }

  @Test("members and teams are bounded, and nobody is a member twice", arguments: SQLDialect.allCases)
  func bounds(dialect: SQLDialect) async throws {
    try await withClub(dialect) { club async throws -> Void in
      let (third, _) = try await sign("third@b.c", club.database)
      let membership = MembershipRecord(
        teamID: club.team, userID: third, role: .member, isDefault: false, joinedAt: Date())
      let again = MembershipRecord(
        teamID: club.team, userID: club.member, role: .owner, isDefault: false, joinedAt: Date())
      #expect(
        try await club.teams.addMember(again, maximumMembers: 5, maximumTeams: 5, audit: audit(club.team))
          == .alreadyMember)
      #expect(
        try await club.teams.addMember(membership, maximumMembers: 2, maximumTeams: 5, audit: audit(club.team)) == .full
      )
      #expect(
        try await club.teams.addMember(membership, maximumMembers: 5, maximumTeams: 1, audit: audit(club.team)) == .full
      )
      let team = TeamRecord(name: "second", createdAt: Date())
      let owner = MembershipRecord(teamID: team.id, userID: third, role: .owner, isDefault: false, joinedAt: Date())
      #expect(try await club.teams.create(team, owner: owner, maximumTeams: 1, audit: audit(team.id)) == false)
      #expect(try await club.teams.create(team, owner: owner, maximumTeams: 2, audit: audit(team.id)))
    }
  }

  @Test("with a member go the keys that they made, and no others", arguments: SQLDialect.allCases)
  func keysOfMembers(dialect: SQLDialect) async throws {
    try await withClub(dialect) { club async throws -> Void in
      let keys = APIKeyRepository(database: club.database)
      for (byte, user) in [(UInt8(1), club.owner), (2, club.member)] {
        let key = APIKeyRecord(
          teamID: club.team, name: "k", keyPrefix: "mrt_", keyHash: [byte], createdBy: user, createdAt: Date())
        #expect(try await keys.insert(key, maximum: 2, audit: audit(club.team)))
      }
      let third = APIKeyRecord(
        teamID: club.team, name: "k", keyPrefix: "mrt_", keyHash: [3], createdBy: nil, createdAt: Date())
      #expect(try await keys.insert(third, maximum: 2, audit: audit(club.team)) == false)
      _ = try await club.teams.removeMember(club.member, of: club.team, audit: audit(club.team))
      #expect(try await keys.list(team: club.team).map(\.createdBy) == [club.owner])
      #expect(try await keys.key(hash: [2]) == nil)
    }
  }

  @Test(
    "a deleted team takes members and keys along and sets its sandboxes on their way", arguments: SQLDialect.allCases)
  func deletion(dialect: SQLDialect) async throws {
    try await withClub(dialect) { club async throws -> Void in
      let entry = club.record()
      try await club.sandboxes.admit([entry], defaults: QuotaRecord())
      let key = APIKeyRecord(
        teamID: club.team, name: "k", keyPrefix: "mrt_", keyHash: [9], createdBy: nil, createdAt: Date())
      #expect(try await APIKeyRepository(database: club.database).insert(key, audit: audit(club.team)))
      let condemned = try await club.teams.delete(club.team, at: Date(), audit: audit(club.team, "team.delete"))
      #expect(condemned?.map(\.id) == [entry.record.id])
      #expect(condemned?.first?.status == .destroying)
      #expect(try await club.teams.delete(club.team, at: Date(), audit: audit(club.team)) == nil)
      #expect(try await club.teams.team(club.team) == nil)
      #expect(try await club.teams.memberships(of: club.member).map(\.team.id).contains(club.team) == false)
      #expect(try await APIKeyRepository(database: club.database).key(hash: [9]) == nil)
      #expect(
        try await club.refusal { try await club.sandboxes.admit([club.record()], defaults: QuotaRecord()) }
          == .teamIsGone)
      #expect(try await APIKeyRepository(database: club.database).insert(key, audit: audit(club.team)) == false)
      let log = try await AuditRepository(database: club.database).list(team: club.team, AuditFilter(limit: 10))
      #expect(log.prefix(2).map(\.record.action) == ["sandbox.destroy", "team.delete"])
    }
  }

  @Test("of a profile only what is given changes", arguments: SQLDialect.allCases)
  func profile(dialect: SQLDialect) async throws {
    try await withClub(dialect) { club async throws -> Void in
      let (people, id, log) = (club.people, club.member, audit(club.team))
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

  @Test("the platform keeps an administrator", arguments: SQLDialect.allCases)
  func lastAdministrator(dialect: SQLDialect) async throws {
    try await withClub(dialect) { club async throws -> Void in
      let (admin, _) = try await sign("admin@b.c", club.database, isAdmin: true)
      #expect(try await club.people.setAdmin(admin, false, audit: audit(club.team)) == false)
      #expect(try await club.people.setAdmin(club.owner, true, audit: audit(club.team)))
      #expect(try await club.people.setAdmin(admin, false, audit: audit(club.team)))
      #expect(try await club.people.user(admin)?.isAdmin == false)
    }
  }

  @Test("pages join to the whole list", arguments: SQLDialect.allCases)
  func pages(dialect: SQLDialect) async throws {
    try await withClub(dialect) { club async throws -> Void in
      var seen: [UserID] = []
      var after: ListPosition?
      while true {
        let page = try await club.people.users(ListPage(limit: 1, after: after))
        guard let user = page.first else { break }
        seen.append(user.id)
        after = ListPosition(user.createdAt, user.id.uuid)
      }
      #expect(seen == [club.owner, club.member])
    }
  }
}

@Suite struct AdmissionTests {
  @Test(
    "each bound is held, and says which one, how much is used and how much was asked for",
    arguments: [
      (QuotaRecord(sandboxes: 1), AdmissionRefusal.quota(what: "max_sandboxes", limit: 1, used: 1, requested: 1)),
      (QuotaRecord(vcpus: 3), .quota(what: "max_vcpus", limit: 3, used: 2, requested: 2)),
      (QuotaRecord(memoryMiB: 1_000), .quota(what: "max_memory_mb", limit: 1_000, used: 512, requested: 512)),
      (QuotaRecord(diskMiB: 6_000), .quota(what: "max_disk_mb", limit: 6_000, used: 5_120, requested: 5_120)),
    ], SQLDialect.allCases)
  func quota(_ refused: (quota: QuotaRecord, as: AdmissionRefusal), _ dialect: SQLDialect) async throws {
    let (quota, expected) = refused
    try await withClub(dialect) { club async throws -> Void in
      try await club.sandboxes.admit([club.record { $0.vcpus = 2 }], defaults: quota)
      let second = club.record { $0.vcpus = 2 }
      #expect(try await club.refusal { try await club.sandboxes.admit([second], defaults: quota) } == expected)
      #expect(try await club.sandboxes.sandbox(second.record.id) == nil)
      // The team's own quota takes precedence over the server's.
      let own = QuotaRecord(sandboxes: 9, vcpus: 99, memoryMiB: 99_999, diskMiB: 99_999)
      #expect(try await club.teams.setQuota(club.team, own, audit: audit(club.team)))
      try await club.sandboxes.admit([second], defaults: quota)
      #expect(
        try await club.sandboxes.usage(of: club.team)
          == TeamUsage(sandboxes: 2, vcpus: 4, memoryMiB: 1_024, diskMiB: 10_240))
    }
  }

  @Test("creates at once do not slip past the bound together", arguments: SQLDialect.allCases)
  func concurrent(dialect: SQLDialect) async throws {
    try await withClub(dialect) { club async throws -> Void in
      let admitted = await withTaskGroup(of: Bool.self) { group in
        for _ in 0..<20 {
          let entry = club.record()
          group.addTask { (try? await club.sandboxes.admit([entry], defaults: QuotaRecord(sandboxes: 3))) != nil }
        }
        return await group.reduce(into: 0) { $0 += $1 ? 1 : 0 }
      }
      #expect(admitted == 3)
    }
  }

  @Test(
    "what is over counts for nothing, what is paused for its disk and saved memory only, and several are admitted together or not at all",
    arguments: SQLDialect.allCases)
  func states(dialect: SQLDialect) async throws {
    try await withClub(dialect) { club async throws -> Void in
      let (over, paused) = (club.record(), club.record())
      let quota = QuotaRecord(sandboxes: 2)
      try await club.sandboxes.admit([over, paused], defaults: quota)
      #expect(try await club.sandboxes.transition(over.record.id, from: .pending, to: .error, at: Date()))
      for (status, next) in [
        (SandboxStatus.pending, SandboxStatus.starting), (.starting, .running), (.running, .paused),
      ] {
        #expect(try await club.sandboxes.transition(paused.record.id, from: status, to: next, at: Date()))
      }
      #expect(try await club.sandboxes.usage(of: club.team) == TeamUsage(diskMiB: 5_120 + 512))
      let three = (0..<3).map { _ in club.record() }
      #expect(try await club.refusal { try await club.sandboxes.admit(three, defaults: quota) } != nil)
      #expect(try await club.sandboxes.usage(of: club.team).sandboxes == 0)
      try await club.sandboxes.admit(Array(three.prefix(2)), defaults: quota)
    }
  }

  @Test(
    "a repeated request is refused with the sandbox that it made, and rolled back as a whole",
    arguments: SQLDialect.allCases)
  func repetition(dialect: SQLDialect) async throws {
    try await withClub(dialect) { club async throws -> Void in
      let (first, second) = (club.record(), club.record())
      func request(_ entry: (record: SandboxRecord, audit: AuditRecord), at time: Date = Date()) -> IdempotencyRecord {
        IdempotencyRecord(teamID: club.team, key: "k", requestHash: [1], sandboxID: entry.record.id, createdAt: time)
      }
      let original = request(first)
      try await club.sandboxes.admit([first], defaults: QuotaRecord(), request: original, validity: 60)
      let refusal = try await club.refusal {
        try await club.sandboxes.admit([second], defaults: QuotaRecord(), request: request(second), validity: 60)
      }
      #expect(refusal == .repeated(original))
      #expect(try await club.sandboxes.sandbox(second.record.id) == nil)
      // Later the key can be used again.
      try await club.sandboxes.admit(
        [second], defaults: QuotaRecord(), request: request(second, at: Date(timeIntervalSinceNow: 61)), validity: 60)
      let known = try await club.sandboxes.earlierRequest(team: club.team, key: "k", since: .distantPast)
      #expect(known?.sandboxID == second.record.id)
      // So it can when its sandbox could not be created.
      #expect(try await club.sandboxes.transition(second.record.id, from: .pending, to: .error, at: Date()))
      #expect(try await club.sandboxes.earlierRequest(team: club.team, key: "k", since: .distantPast) == nil)
      let third = club.record()
      try await club.sandboxes.admit([third], defaults: QuotaRecord(), request: request(third), validity: 60)
      try await club.sandboxes.forgetRequests(before: Date(timeIntervalSinceNow: 1))
      #expect(try await club.sandboxes.earlierRequest(team: club.team, key: "k", since: .distantPast) == nil)
    }
  }

  @Test("the audit log is filtered by each of its columns", arguments: SQLDialect.allCases)
  func auditFilters(dialect: SQLDialect) async throws {
    try await withClub(dialect) { club async throws -> Void in
      let log = AuditRepository(database: club.database)
      var row = audit(club.team, "x.y")
      row.targetID = "t"
      row.outcome = "forbidden"
      row.actorID = "somebody"
      row.createdAt = Date(timeIntervalSince1970: 1_000)
      try await log.append([row])
      let filters = [
        AuditFilter(action: "x.y", limit: 9), AuditFilter(actorID: "somebody", limit: 9),
        AuditFilter(targetID: "t", limit: 9),
        AuditFilter(outcome: "forbidden", limit: 9), AuditFilter(until: Date(timeIntervalSince1970: 1_001), limit: 9),
        AuditFilter(targetType: "sandbox", outcome: "forbidden", since: Date(timeIntervalSince1970: 1_000), limit: 9),
      ]
      for filter in filters { #expect(try await log.list(team: club.team, filter).map(\.record.action) == ["x.y"]) }
      #expect(try await log.list(team: club.team, AuditFilter(action: "x.y", outcome: "ok", limit: 9)).isEmpty)
    }
  }
}
