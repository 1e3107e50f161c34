import Foundation
package import Model
package import Persistence

/// Manages teams. All calls require a user's session; a team that the user does not belong to does not exist for them.
///
/// | | member | admin | owner |
/// |---|---|---|---|
/// | see the team and its members, leave | yes | yes | not leave |
/// | rename, add and remove members, change roles | | yes | yes |
/// | delete, transfer the ownership | | | yes |
package struct TeamService: Sendable {
  let teams: TeamRepository
  let people: PeopleRepository
  let sandboxes: SandboxService
  let audit: AuditLog
  let dependencies: Dependencies

  var now: Date { dependencies.now() }

  /// The user's teams, earliest joined first; at most `Limits.teamsPerUser`.
  package func list(for caller: Caller) async throws -> [TeamMembership] {
    try await teams.memberships(of: try caller.user())
  }

  /// - Throws: `not_found`.
  package func team(_ id: TeamID, for caller: Caller) async throws -> TeamMembership {
    guard let membership = try await teams.membership(of: try caller.user(), in: id) else {
      throw MartletError.teamNotFound(id)
    }
    return membership
  }

  /// - Throws: `invalid_request`; `quota_exceeded` for a user who is in the maximum number of teams.
  package func create(name: String, for caller: Caller) async throws -> TeamMembership {
    let user = try caller.user()
    let team = TeamRecord(name: try DisplayName(name).value, createdAt: now)
    let owner = MembershipRecord(teamID: team.id, userID: user, role: .owner, isDefault: false, joinedAt: now)
    let record = caller.acting(in: team.id).audit("team.create", of: "team", team.id.wire, outcome: "ok", at: now)
    guard try await teams.create(team, owner: owner, maximumTeams: Limits.teamsPerUser, audit: record) else {
      throw MartletError(.quotaExceeded, "a user may be in at most \(Limits.teamsPerUser) teams; leave one first")
    }
    return TeamMembership(team: team, role: .owner, isDefault: false, joinedAt: owner.joinedAt)
  }

  /// - Throws: `not_found`, `forbidden`, `invalid_request`.
  package func rename(_ id: TeamID, to name: String, for caller: Caller) async throws -> TeamMembership {
    let name = try DisplayName(name).value
    var membership = try await team(id, for: caller)
    try await change(id, "team.rename", of: "team", id.wire, caller) { audit in
      try membership.require(\.managesMembers, "rename it")
      guard try await teams.rename(id, to: name, by: caller.actingUser(), audit: audit) else {
        throw MartletError.teamNotFound(id)
      }
    }
    membership.team.name = name
    return membership
  }

  /// Deletes the team: its members and keys are refused at once, and its sandboxes are destroyed.
  /// - Throws: `not_found`; `forbidden` for all but the owner.
  package func delete(_ id: TeamID, for caller: Caller) async throws {
    let membership = try await team(id, for: caller)
    let destroying = try await change(id, "team.delete", of: "team", id.wire, caller) { audit in
      try membership.require(\.isOwner, "delete it")
      guard let destroying = try await teams.delete(id, at: now, by: caller.actingUser(), audit: audit) else {
        throw MartletError.teamNotFound(id)
      }
      return destroying
    }
    // After a crash the monitor continues: the rows have the state `destroying`.
    for record in destroying { sandboxes.startDestroying(record) }
  }

  /// Runs a change of a team, and records a failure in that team's audit log.
  func change<Value>(
    _ team: TeamID, _ action: String, of type: String, _ id: String, _ caller: Caller,
    _ work: (AuditRecord) async throws -> Value
  ) async throws -> Value {
    try await audit.recordingFailure(caller.acting(in: team).audit(action, of: type, id, outcome: "ok", at: now), work)
  }
}

extension TeamMembership {
  /// - Throws: `forbidden` with the roles that have the right.
  func require(_ right: KeyPath<TeamRole, Bool>, _ what: String) throws(MartletError) {
    guard role[keyPath: right] else {
      let who = TeamRole.allCases.filter { $0[keyPath: right] }.map(\.rawValue).joined(separator: " and ")
      throw MartletError(.forbidden, "your role in this team is \(role.rawValue); only \(who) may \(what)")
    }
  }
}
