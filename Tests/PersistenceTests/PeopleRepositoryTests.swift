import Foundation
import Model
import Persistence
import Testing

@Suite struct PeopleRepositoryTests {
  private func user(_ email: String) -> UserRecord {
    UserRecord(email: email, name: "N", passwordHash: "x", isAdmin: false, createdAt: Date())
  }

  private func sign(_ user: UserRecord, _ database: any Database, onlyIfNoUsers: Bool = false) async throws -> Bool {
    let team = TeamRecord(name: "t", createdAt: Date())
    return try await PeopleRepository(database: database).insert(
      user: user, team: team,
      membership: MembershipRecord(teamID: team.id, userID: user.id, role: .owner, isDefault: true, joinedAt: Date()),
      key: nil,
      audit: [], onlyIfNoUsers: onlyIfNoUsers)
  }

  @Test("an e-mail belongs to one user, and a refused sign-up leaves nothing", arguments: SQLDialect.allCases)
  func duplicate(dialect: SQLDialect) async throws {
    try await withDatabase(dialect) { database async throws -> Void in
      #expect(try await sign(user("a@b.c"), database))
      let second = user("a@b.c")
      do {
        _ = try await sign(second, database)
        Issue.record("the duplicate was accepted")
      } catch PersistenceError.duplicate {
        #expect(try await TeamRepository(database: database).memberships(of: second.id).isEmpty)
      }
      let teams = try await database.query { try $0.rows("SELECT count(*) FROM teams").map { try $0.integer(0) } }
      #expect(teams == [1])
    }
  }

  @Test("only the first of two first runs inserts users", arguments: SQLDialect.allCases)
  func firstRun(dialect: SQLDialect) async throws {
    try await withDatabase(dialect) { database async throws -> Void in
      #expect(try await sign(user("a@b.c"), database, onlyIfNoUsers: true))
      #expect(try await sign(user("d@e.f"), database, onlyIfNoUsers: true) == false)
    }
  }

  @Test(
    "a key is found by its hash until it is deleted, and deleted only by its own team", arguments: SQLDialect.allCases)
  func keys(dialect: SQLDialect) async throws {
    try await withDatabase(dialect) { database async throws -> Void in
      let (team, other) = (try await makeTeam(database), try await makeTeam(database))
      let keys = APIKeyRepository(database: database)
      let key = APIKeyRecord(
        teamID: team, name: "k", keyPrefix: "mrt_12345678", keyHash: [1, 2, 3], createdBy: nil, createdAt: Date())
      try await keys.insert(key, audit: audit(team))
      #expect(try await keys.key(hash: [1, 2, 3]) == key)
      #expect(try await keys.key(hash: [1, 2]) == nil)
      #expect(try await keys.delete(key.id, team: other, audit: audit(other)) == false)
      try await keys.touch([key.id: Date(timeIntervalSince1970: 5)])
      #expect(try await keys.list(team: team).map(\.lastUsed) == [Date(timeIntervalSince1970: 5)])
      #expect(try await keys.delete(key.id, team: team, audit: audit(team)))
      #expect(try await keys.key(hash: [1, 2, 3]) == nil)
    }
  }

  @Test("the audit log is read newest first, by its team only", arguments: SQLDialect.allCases)
  func auditLog(dialect: SQLDialect) async throws {
    try await withDatabase(dialect) { database async throws -> Void in
      let (team, other) = (TeamID(), TeamID())
      let log = AuditRepository(database: database)
      try await log.append([audit(team, "one"), audit(other, "theirs"), audit(team, "two"), audit(team, "three")])
      let page = try await log.list(team: team, limit: 2)
      #expect(page.map(\.record.action) == ["three", "two"])
      #expect(try await log.list(team: team, limit: 2, before: page.last?.number).map(\.record.action) == ["one"])
    }
  }
}
