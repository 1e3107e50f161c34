import Foundation
import Model
import Persistence
import Testing

@testable import ControlPlane

/// Requests that were authenticated, and whose caller lost the right to make them before their body arrived.
@Suite(.serialized) struct LateRequestTests {
  private func withMember(
    _ dialect: SQLDialect, _ body: (_ plane: Plane, _ owner: Caller, _ member: Caller) async throws -> Void
  ) async throws {
    try await withPlane(dialect) { plane async throws -> Void in
      let owner = try await plane.signUp("owner@b.c").caller
      let (_, alone) = try await plane.signUp("member@b.c")
      _ = try await plane.control.teams.addMember("member@b.c", role: .admin, to: owner.teamID, for: owner)
      let session = try await plane.control.accounts.switchTeam(to: owner.teamID, for: alone)
      try await body(plane, owner, try await plane.caller(session))
    }
  }

  private func keys(_ plane: Plane, _ team: TeamID) async throws -> Int {
    try await APIKeyRepository(database: plane.database).list(team: team).count
  }

  @Test("a member who was removed since the call began cannot create a key", arguments: SQLDialect.allCases)
  func removed(dialect: SQLDialect) async throws {
    try await withMember(dialect) { plane, owner, member async throws -> Void in
      _ = try await plane.control.apiKeys.create(name: "before", for: member)
      try await plane.control.teams.removeMember(try member.user(), from: owner.teamID, for: owner)
      #expect(await code { _ = try await plane.control.apiKeys.create(name: "after", for: member) } == .noTeam)
      #expect(try await keys(plane, owner.teamID) == 0)
      #expect(try await plane.log(owner.teamID).contains("api_key.create no_team"))
    }
  }

  @Test(
    "a session from before a password change cannot create a key, add a member or change a role",
    arguments: SQLDialect.allCases)
  func oldSession(dialect: SQLDialect) async throws {
    try await withMember(dialect) { plane, owner, member async throws -> Void in
      let fresh = try await plane.control.accounts.changePassword(
        of: owner, from: "correct horse", to: "battery staple")
      _ = try await plane.signUp("friend@b.c")
      let (team, user) = (owner.teamID, try member.user())
      #expect(await code { _ = try await plane.control.apiKeys.create(name: "k", for: owner) } == .unauthorized)
      #expect(
        await code { _ = try await plane.control.teams.addMember("friend@b.c", role: .admin, to: team, for: owner) }
          == .unauthorized)
      #expect(
        await code { _ = try await plane.control.teams.setRole(.member, of: user, in: team, for: owner) }
          == .unauthorized)
      #expect(
        await code { _ = try await plane.control.teams.setRole(.owner, of: user, in: team, for: owner) }
          == .unauthorized)
      #expect(try await keys(plane, team) == 0)
      let now = try await plane.caller(fresh)
      _ = try await plane.control.apiKeys.create(name: "k", for: now)
      #expect(try await plane.control.teams.setRole(.member, of: user, in: team, for: now).role == .member)
    }
  }

  @Test(
    "an administrator who lost the role since the call began cannot change administrators, users or quotas",
    arguments: SQLDialect.allCases)
  func dismissed(dialect: SQLDialect) async throws {
    try await withPlane(dialect) { plane async throws -> Void in
      let admin = plane.control.admin
      var callers: [Caller] = []
      for email in ["a@b.c", "b@b.c"] {
        _ = try await admin.createLocalUser(email: email, password: "correct horse", name: "A", isAdmin: true)
        callers.append(try await plane.caller(try await plane.logIn(email)))
      }
      let (one, other) = (callers[0], callers[1])
      let id = try other.user()
      #expect(try await admin.setAdmin(id, false, for: one).isAdmin == false)
      #expect(await code { _ = try await admin.setAdmin(id, true, for: other) } == .forbidden)
      #expect(
        await code {
          _ = try await admin.createUser(
            email: "c@b.c", password: "correct horse", name: "C", isAdmin: true, for: other)
        } == .forbidden)
      #expect(
        await code { _ = try await admin.setQuota(QuotaRecord(sandboxes: 9), of: one.teamID, for: other) } == .forbidden
      )
      #expect(try await PeopleRepository(database: plane.database).user(id)?.isAdmin == false)
      #expect(try await PeopleRepository(database: plane.database).user(email: "c@b.c") == nil)
      #expect(try await admin.setAdmin(id, true, for: one).isAdmin)
    }
  }

  @Test(
    "a concurrent removal and key creation leave no key of a former member",
    arguments: SQLDialect.allCases)
  func racing(dialect: SQLDialect) async throws {
    try await withMember(dialect) { plane, owner, member async throws -> Void in
      let user = try member.user()
      async let removal: Void = plane.control.teams.removeMember(user, from: owner.teamID, for: owner)
      await withTaskGroup { group in
        for number in 0..<8 {
          group.addTask {
            _ = await code { _ = try await plane.control.apiKeys.create(name: "\(number)", for: member) }
          }
        }
      }
      try await removal
      #expect(try await keys(plane, owner.teamID) == 0)
    }
  }
}
