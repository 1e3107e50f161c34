import Foundation
import Model
import Persistence
import TestSupport
import Testing

@testable import ControlPlane

@Suite(.serialized) struct TeamTests {
  /// A team with a member in each role.
  private struct TeamWithRoles {
    let plane: Plane
    let team: TeamID
    let owner: Caller
    let admin: Caller
    let member: Caller
    let outsider: Caller
    /// The members' sessions, all for this team.
    let sessions: [TeamRole: Session]

    var teams: TeamService { plane.control.teams }
    var all: [(TeamRole?, Caller)] { [(.owner, owner), (.admin, admin), (.member, member), (nil, outsider)] }
  }

  private func withTeamOfRoles(_ dialect: SQLDialect, _ body: (TeamWithRoles) async throws -> Void) async throws {
    try await withPlane(dialect) { plane async throws -> Void in
      let (first, owner) = try await plane.signUp("owner@b.c")
      let team = first.teamID
      var callers: [TeamRole: Caller] = [:]
      var sessions = [TeamRole.owner: first]
      for role in [TeamRole.admin, .member] {
        let (_, caller) = try await plane.signUp("\(role.rawValue)@b.c")
        _ = try await plane.control.teams.addMember("\(role.rawValue)@b.c", role: role, to: team, for: owner)
        let session = try await plane.control.accounts.switchTeam(to: team, for: caller)
        sessions[role] = session
        callers[role] = try await plane.caller(session)
      }
      let (_, outsider) = try await plane.signUp("outsider@b.c")
      try await body(
        TeamWithRoles(
          plane: plane, team: team, owner: owner, admin: try #require(callers[.admin]),
          member: try #require(callers[.member]),
          outsider: outsider, sessions: sessions))
    }
  }

  @Test("roles determine rights, and for users outside of the team it does not exist", arguments: SQLDialect.allCases)
  func rights(dialect: SQLDialect) async throws {
    try await withTeamOfRoles(dialect) { fixture async throws -> Void in
      let (teams, team) = (fixture.teams, fixture.team)
      _ = try await fixture.plane.signUp("new@b.c")
      let unknown = UserID()
      for (role, caller) in fixture.all {
        let manages: ErrorCode? = role == nil ? .notFound : role == .member ? .forbidden : nil
        let owns: ErrorCode? = role == nil ? .notFound : role == .owner ? nil : .forbidden
        #expect(await code { _ = try await teams.team(team, for: caller) } == (role == nil ? .notFound : nil))
        #expect(await code { _ = try await teams.rename(team, to: "x", for: caller) } == manages)
        #expect(
          await code { _ = try await teams.addMember("unknown@b.c", role: .member, to: team, for: caller) }
            == (manages ?? .notFound))
        #expect(
          await code { _ = try await teams.setRole(.admin, of: unknown, in: team, for: caller) }
            == (manages ?? .notFound))
        #expect(
          await code { _ = try await teams.setRole(.owner, of: unknown, in: team, for: caller) } == (owns ?? .notFound))
        #expect(await code { try await teams.removeMember(unknown, from: team, for: caller) } == (manages ?? .notFound))
        if role != .owner { #expect(await code { try await teams.delete(team, for: caller) } == owns) }
      }
      let log = try await fixture.plane.log(team)
      #expect(
        log.contains("team.rename ok") && log.contains("team.rename forbidden") && log.contains("team.delete forbidden")
      )
      #expect(!log.contains { $0.hasSuffix("sandbox.create ok") })
    }
  }

  @Test(
    "the owner cannot be removed, demoted or leave, but can transfer the ownership", arguments: SQLDialect.allCases)
  func owner(dialect: SQLDialect) async throws {
    try await withTeamOfRoles(dialect) { fixture async throws -> Void in
      let (teams, team) = (fixture.teams, fixture.team)
      let (owner, admin) = (try fixture.owner.user(), try fixture.admin.user())
      for caller in [fixture.owner, fixture.admin] {
        #expect(await code { try await teams.removeMember(owner, from: team, for: caller) } == .invalidState)
        #expect(await code { _ = try await teams.setRole(.member, of: owner, in: team, for: caller) } == .invalidState)
      }
      #expect(await code { try await teams.leave(team, for: fixture.owner) } == .invalidState)
      #expect(
        await code { _ = try await teams.addMember("outsider@b.c", role: .owner, to: team, for: fixture.owner) }
          == .invalidRequest)
      #expect(try await teams.setRole(.owner, of: admin, in: team, for: fixture.owner).role == .owner)
      #expect(try await teams.team(team, for: fixture.owner).role == .admin)
      try await teams.leave(team, for: fixture.owner)
      #expect(await code { _ = try await teams.team(team, for: fixture.owner) } == .notFound)
    }
  }

  @Test("a removed member is refused from the next call on, with session and keys", arguments: SQLDialect.allCases)
  func removal(dialect: SQLDialect) async throws {
    try await withTeamOfRoles(dialect) { fixture async throws -> Void in
      let plane = fixture.plane
      let session = try #require(fixture.sessions[.member])
      let key = try await plane.control.apiKeys.create(name: "mine", for: fixture.member)
      #expect(try await plane.control.authenticator.principal(apiKey: key.secret).teamID == fixture.team)
      #expect(try await plane.caller(session).principal.role == .member)
      try await fixture.teams.removeMember(try fixture.member.user(), from: fixture.team, for: fixture.admin)
      let after = try await plane.caller(session)
      #expect(after.principal.role == nil)
      #expect(throws: MartletError.self) { try after.principal.requireTeam() }
      #expect(await code { _ = try await plane.control.authenticator.principal(apiKey: key.secret) } == .unauthorized)
      // A changed role takes effect at once too.
      _ = try await fixture.teams.setRole(.member, of: try fixture.admin.user(), in: fixture.team, for: fixture.owner)
      #expect(try await plane.caller(try #require(fixture.sessions[.admin])).principal.role == .member)
    }
  }

  @Test(
    "members may delete their own keys, owners and admins all; a deleted key is refused at once",
    arguments: SQLDialect.allCases)
  func keys(dialect: SQLDialect) async throws {
    try await withTeamOfRoles(dialect) { fixture async throws -> Void in
      let (keys, authenticator) = (fixture.plane.control.apiKeys, fixture.plane.control.authenticator)
      let ofOwner = try await keys.create(name: "a", for: fixture.owner)
      let ofMember = try await keys.create(name: "b", for: fixture.member)
      #expect(
        Set(try await keys.list(ListPage(limit: 10), for: fixture.member).map(\.id)) == [
          ofOwner.record.id, ofMember.record.id,
        ])
      #expect(await code { try await keys.delete(ofOwner.record.id, for: fixture.member) } == .forbidden)
      #expect(await code { try await keys.delete(ofOwner.record.id, for: fixture.outsider) } == .notFound)
      #expect(try await authenticator.principal(apiKey: ofOwner.secret).teamID == fixture.team)
      try await keys.delete(ofOwner.record.id, for: fixture.admin)
      try await keys.delete(ofMember.record.id, for: fixture.member)
      for key in [ofOwner, ofMember] {
        #expect(await code { _ = try await authenticator.principal(apiKey: key.secret) } == .unauthorized)
      }
      let caller = Caller(principal: Principal(kind: .apiKey(ofOwner.record.id), teamID: fixture.team))
      #expect(await code { _ = try await keys.create(name: nil, for: caller) } == .forbidden)
    }
  }

  @Test("deleting a team destroys its sandboxes and ends its keys and sessions", arguments: SQLDialect.allCases)
  func deletion(dialect: SQLDialect) async throws {
    try await withTeamOfRoles(dialect) { fixture async throws -> Void in
      let plane = fixture.plane
      let key = try await plane.control.apiKeys.create(name: "k", for: fixture.owner)
      let running = try await plane.service.create(NewSandbox(), for: fixture.owner).record
      let other = try await plane.create()
      try await fixture.teams.delete(fixture.team, for: fixture.owner)
      #expect(await code { _ = try await plane.control.authenticator.principal(apiKey: key.secret) } == .unauthorized)
      for session in fixture.sessions.values { #expect(try await plane.caller(session).principal.role == nil) }
      #expect(await code { _ = try await plane.service.create(NewSandbox(), for: fixture.owner) } == .noTeam)
      #expect(try await plane.reconcile { try await plane.status(running.id) == .stopped })
      #expect(await plane.host.sandboxes.keys.map { $0 } == [other.id])
      #expect(try await plane.status(other.id) == .running)
    }
  }

  @Test("a crash right after a team was deleted leaves nothing running", arguments: SQLDialect.allCases)
  func deletionThenCrash(dialect: SQLDialect) async throws {
    try await withTeamOfRoles(dialect) { fixture async throws -> Void in
      let plane = fixture.plane
      let running = try await plane.service.create(NewSandbox(), for: fixture.owner).record
      // Only the transaction, as if the process had died after it.
      let audit = fixture.owner.audit("team.delete", of: "team", fixture.team.wire, outcome: "ok", at: plane.clock.now)
      _ = try await TeamRepository(database: plane.database).delete(fixture.team, at: plane.clock.now, audit: audit)
      #expect(try await plane.reconcile { try await plane.status(running.id) == .stopped })
      #expect(await plane.host.sandboxes.isEmpty)
    }
  }

  @Test(
    "finished sandboxes are kept for the retention time, and deleted then", arguments: [0, 90], SQLDialect.allCases)
  func retention(days: Int, dialect: SQLDialect) async throws {
    try await withPlane(dialect) { plane async throws -> Void in
      let control = ControlPlane(
        database: plane.database, hosts: FixedHosts([plane.host]), identity: .forTests,
        retention: Retention(days: days),
        dependencies: plane.control.sandboxes.dependencies)
      #expect(try await eventually { await control.leadership.isLeader() })
      let over = try await plane.create().id
      let running = try await plane.create().id
      try await plane.service.destroy(over, for: plane.caller)
      #expect(await plane.control.housekeeping.sweep())
      #expect(try await plane.status(over) == .stopped)
      plane.clock.advance(by: 91 * 86_400)
      #expect(try await eventually { await control.housekeeping.sweep() })
      #expect(try await (plane.status(over) == nil) == (days > 0))
      #expect(try await plane.status(running) == .running)
      let log = try await AuditRepository(database: plane.database).list(team: plane.caller.teamID, limit: 100)
      #expect(log.isEmpty == (days > 0))
    }
  }
}
