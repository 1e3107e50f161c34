import Foundation
import Model
import Persistence
import Testing

/// The role with which a member makes a change is the one that they have when it is written, not the one that they had
/// when the request came.
@Suite struct RoleCheckTests {
  private struct Fixture {
    let database: any Database
    let team: TeamID
    /// Was an admin of the team when the request came.
    let demoted: ActingUser
    let admin: ActingUser
    let owner: ActingUser
    /// Whom the changes are about.
    let other: UserID
    /// A key that `other` made.
    let key: APIKeyID

    var teams: TeamRepository { TeamRepository(database: database) }
    var keys: APIKeyRepository { APIKeyRepository(database: database) }
    var log: AuditRecord { audit(team) }

    /// Everything that a member may change, by the name that the test shows.
    static let changes: [(name: String, isForOwner: Bool, make: @Sendable (Fixture, ActingUser) async throws -> Void)] =
      [
        (
          "add a member", false,
          { fixture, actor async throws -> Void in
            let newcomer = try await Fixture.addUser("new@b.c", fixture.database)
            let membership = MembershipRecord(
              teamID: fixture.team, userID: newcomer, role: .admin, isDefault: false, joinedAt: Date())
            let change = try await fixture.teams.addMember(
              membership, maximumMembers: 9, maximumTeams: 9, by: actor, audit: fixture.log)
            #expect(change == .done)
          }
        ),
        (
          "change a role", false,
          { fixture, actor async throws -> Void in
            let change = try await fixture.teams.setRole(
              fixture.other, of: fixture.team, to: .admin, by: actor, audit: fixture.log)
            #expect(change == .done)
          }
        ),
        (
          "remove a member", false,
          { fixture, actor async throws -> Void in
            let change = try await fixture.teams.removeMember(
              fixture.other, of: fixture.team, by: actor, audit: fixture.log)
            #expect(change == .done)
          }
        ),
        (
          "rename the team", false,
          { fixture, actor async throws -> Void in
            #expect(try await fixture.teams.rename(fixture.team, to: "renamed", by: actor, audit: fixture.log))
          }
        ),
        (
          "delete another member's key", false,
          { fixture, actor async throws -> Void in
            #expect(try await fixture.keys.delete(fixture.key, team: fixture.team, by: actor, audit: fixture.log))
          }
        ),
        (
          "give the team away", true,
          { fixture, actor async throws -> Void in
            let change = try await fixture.teams.transferOwnership(
              of: fixture.team, from: actor.id, to: fixture.other, audit: fixture.log)
            #expect(change == .done)
          }
        ),
        (
          "delete the team", true,
          { fixture, actor async throws -> Void in
            #expect(try await fixture.teams.delete(fixture.team, at: Date(), by: actor, audit: fixture.log) != nil)
          }
        ),
      ]

    /// What the changes are about, as the database has it.
    var state: [String] {
      get async throws {
        let members = try await teams.members(of: team, ListPage(limit: 50)).map { "\($0.email) \($0.role)" }
        let keys = try await keys.list(team: team).map(\.id.wire)
        return members.sorted() + keys + [try await teams.team(team)?.name ?? "deleted"]
      }
    }

    static func with(_ dialect: SQLDialect, _ body: (Fixture) async throws -> Void) async throws {
      try await withDatabase(dialect) { database async throws -> Void in
        let (owner, team) = try await addOwner("owner@b.c", database)
        var users: [UserID] = []
        for (name, role) in [("demoted", TeamRole.admin), ("admin", .admin), ("other", .member)] {
          let user = try await addUser("\(name)@b.c", database)
          let membership = MembershipRecord(
            teamID: team, userID: user, role: role, isDefault: false, joinedAt: Date())
          #expect(
            try await TeamRepository(database: database).addMember(
              membership, maximumMembers: 9, maximumTeams: 9, audit: audit(team)) == .done)
          users.append(user)
        }
        let key = APIKeyRecord(
          teamID: team, name: "k", keyPrefix: "mrt_00000000", keyHash: [UInt8](repeating: 7, count: 32),
          createdBy: users[2], createdAt: Date())
        let keys = APIKeyRepository(database: database)
        #expect(try await keys.insert(key, audit: audit(team)))
        try await body(
          Fixture(
            database: database, team: team, demoted: ActingUser(id: users[0]), admin: ActingUser(id: users[1]),
            owner: ActingUser(id: owner), other: users[2], key: key.id))
      }
    }

    private static func addUser(_ email: String, _ database: any Database) async throws -> UserID {
      try await addOwner(email, database).0
    }

    private static func addOwner(_ email: String, _ database: any Database) async throws -> (UserID, TeamID) {
      let team = TeamRecord(name: "t", createdAt: Date())
      let user = UserRecord(email: email, name: "N", passwordHash: "x", isAdmin: false, createdAt: Date())
      _ = try await PeopleRepository(database: database).insert(
        user: user, team: team,
        membership: MembershipRecord(
          teamID: team.id, userID: user.id, role: .owner, isDefault: true, joinedAt: Date()), key: nil,
        audit: [audit(team.id)])
      return (user.id, team.id)
    }
  }

  @Test("a role that was taken away while the request was under way changes nothing", arguments: SQLDialect.allCases)
  func demoted(dialect: SQLDialect) async throws {
    for change in Fixture.changes {
      try await Fixture.with(dialect) { fixture async throws -> Void in
        #expect(
          try await fixture.teams.setRole(
            fixture.demoted.id, of: fixture.team, to: .member, by: fixture.owner, audit: fixture.log) == .done)
        let before = try await fixture.state
        await #expect(throws: AuthorizationRefusal.lacksRole, "\(change.name)") {
          try await change.make(fixture, fixture.demoted)
        }
        #expect(try await fixture.state == before, "\(change.name)")
      }
    }
  }

  @Test("a member who was removed while the request was under way changes nothing", arguments: SQLDialect.allCases)
  func removed(dialect: SQLDialect) async throws {
    for change in Fixture.changes {
      try await Fixture.with(dialect) { fixture async throws -> Void in
        #expect(
          try await fixture.teams.removeMember(
            fixture.demoted.id, of: fixture.team, by: fixture.owner, audit: fixture.log) == .done)
        let before = try await fixture.state
        await #expect(throws: AuthorizationRefusal.isNoMember, "\(change.name)") {
          try await change.make(fixture, fixture.demoted)
        }
        #expect(try await fixture.state == before, "\(change.name)")
      }
    }
  }

  @Test("those who have the role make the change", arguments: SQLDialect.allCases)
  func permitted(dialect: SQLDialect) async throws {
    for change in Fixture.changes {
      try await Fixture.with(dialect) { fixture async throws -> Void in
        try await change.make(fixture, change.isForOwner ? fixture.owner : fixture.admin)
      }
    }
  }

  @Test("every member leaves and deletes their own keys, whatever their role", arguments: SQLDialect.allCases)
  func ownAffairs(dialect: SQLDialect) async throws {
    try await Fixture.with(dialect) { fixture async throws -> Void in
      let actor = ActingUser(id: fixture.other)
      #expect(try await fixture.keys.delete(fixture.key, team: fixture.team, by: actor, audit: fixture.log))
      #expect(
        try await fixture.teams.removeMember(fixture.other, of: fixture.team, by: actor, audit: fixture.log) == .done)
    }
  }
}
