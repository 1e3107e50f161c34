import Foundation
package import Model
package import Persistence

extension TeamService {
  /// The team's members, earliest joined first.
  /// - Throws: `not_found`.
  package func members(of id: TeamID, _ page: ListPage, for caller: Caller) async throws -> [TeamMember] {
    _ = try await team(id, for: caller)
    return try await teams.members(of: id, page)
  }

  /// - Throws: `not_found` also for an e-mail without an account; `already_exists`, `forbidden`, `quota_exceeded`.
  package func addMember(_ email: String, role: TeamRole, to id: TeamID, for caller: Caller) async throws -> TeamMember
  {
    let email = try EmailAddress(email)
    try Self.refuseOwnerRole(role)
    let membership = try await team(id, for: caller)
    let user = try await people.user(email: email.value)
    let now = now
    return try await change(id, "member.add", of: "user", user?.id.wire ?? "unknown", caller) { audit in
      try membership.require(\.managesMembers, "add members")
      guard let user else {
        throw MartletError(.notFound, "there is no account for \(email); the user must sign up first")
      }
      let member = MembershipRecord(teamID: id, userID: user.id, role: role, isDefault: false, joinedAt: now)
      let change = try await teams.addMember(
        member, maximumMembers: Limits.membersPerTeam, maximumTeams: Limits.teamsPerUser, by: try caller.actingUser(),
        audit: audit)
      try Self.check(change, id, user.id)
      return TeamMember(user: user.id, email: user.email, name: user.name, role: role, joinedAt: member.joinedAt)
    }
  }

  /// Changes a member's role. An owner who makes another member the owner becomes an admin.
  /// - Throws: `not_found`, `forbidden`; `invalid_state` for the owner, whose role changes only with a transfer.
  package func setRole(_ role: TeamRole, of user: UserID, in id: TeamID, for caller: Caller) async throws -> TeamMember
  {
    let membership = try await team(id, for: caller)
    let owner = try caller.user()
    try await change(id, "member.role", of: "user", user.wire, caller) { audit in
      let change: MembershipChange
      if role == .owner {
        try membership.require(\.isOwner, "transfer the ownership")
        change = try await teams.transferOwnership(
          of: id, from: owner, to: user, sessionEpoch: caller.principal.sessionEpoch, audit: audit)
      } else {
        try membership.require(\.managesMembers, "change roles")
        change = try await teams.setRole(user, of: id, to: role, by: try caller.actingUser(), audit: audit)
      }
      try Self.check(change, id, user)
    }
    guard let member = try await teams.member(user, of: id) else { throw Self.memberNotFound(user, id) }
    return member
  }

  /// Removes a member and the keys that they created for this team. Members may remove themselves, which is leaving.
  /// - Throws: `not_found`, `forbidden`, `invalid_state` for the owner.
  package func removeMember(_ user: UserID, from id: TeamID, for caller: Caller) async throws {
    let membership = try await team(id, for: caller)
    let isLeaving = try caller.user() == user
    try await change(id, isLeaving ? "member.leave" : "member.remove", of: "user", user.wire, caller) { audit in
      if !isLeaving { try membership.require(\.managesMembers, "remove members") }
      try Self.check(try await teams.removeMember(user, of: id, by: caller.actingUser(), audit: audit), id, user)
    }
  }

  package func leave(_ id: TeamID, for caller: Caller) async throws {
    try await removeMember(try caller.user(), from: id, for: caller)
  }

  private static func check(_ change: MembershipChange, _ team: TeamID, _ user: UserID) throws(MartletError) {
    switch change {
    case .done: return
    case .absent: throw memberNotFound(user, team)
    case .isOwner:
      throw MartletError(
        .invalidState,
        "\(user) owns this team and can be neither removed nor demoted; make another member the owner first")
    case .alreadyMember: throw MartletError(.alreadyExists, "\(user) is a member already")
    case .full:
      throw MartletError(
        .quotaExceeded,
        "a team may have at most \(Limits.membersPerTeam) members, "
          + "and a user may be in at most \(Limits.teamsPerUser) teams"
      )
    }
  }

  private static func refuseOwnerRole(_ role: TeamRole) throws(MartletError) {
    guard role != .owner else {
      throw MartletError(
        .invalidRequest, "role must be admin or member; the owner can transfer the ownership to a member later")
    }
  }

  private static func memberNotFound(_ user: UserID, _ team: TeamID) -> MartletError {
    MartletError(.notFound, "\(user) is not a member of \(team)")
  }
}
