import Foundation
package import Model
package import Persistence

/// The authenticated user or API key that makes a call, and its team.
package struct Principal: Sendable, Equatable {
  package enum Kind: Sendable, Equatable {
    case apiKey(APIKeyID)
    case user(UserID)
    case system
  }

  package var kind: Kind
  package var teamID: TeamID
  /// The principal's role in the team; nil for a user whose session began as a member and who is no longer one.
  package var role: TeamRole?
  /// Whether the user is an administrator of the platform.
  package var isAdmin: Bool
  /// The epoch of the user's session; nil without a session.
  package var sessionEpoch: Int?

  package init(kind: Kind, teamID: TeamID, role: TeamRole? = .member, isAdmin: Bool = false, sessionEpoch: Int? = nil) {
    self.kind = kind
    self.teamID = teamID
    self.role = role
    self.isAdmin = isAdmin
    self.sessionEpoch = sessionEpoch
  }

  /// The user; nil for API keys and for the system.
  package var userID: UserID? {
    guard case .user(let id) = kind else { return nil }
    return id
  }

  /// - Throws: `no_team` for a user who is no longer a member of the session's team.
  package func requireTeam() throws(MartletError) {
    guard role != nil else {
      throw MartletError(.noTeam, "you are no longer a member of this team; switch to another team")
    }
  }

  /// - Throws: `forbidden` unless the principal is a user with a session.
  package func requireUser() throws(MartletError) {
    guard userID != nil else {
      throw MartletError(
        .forbidden, "this needs a user's session, not an API key; log in and send the session's token")
    }
  }

  /// - Throws: `forbidden` unless the principal is an administrator of the platform.
  package func requireAdmin() throws(MartletError) {
    try requireUser()
    guard isAdmin else { throw MartletError(.forbidden, "only administrators of the platform may do this") }
  }

  var auditType: String {
    switch kind {
    case .apiKey: "api_key"
    case .user: "user"
    case .system: "system"
    }
  }

  var auditID: String {
    switch kind {
    case .apiKey(let id): id.wire
    case .user(let id): id.wire
    case .system: "martlet"
    }
  }
}

/// A principal and the address of its client.
package struct Caller: Sendable, Equatable {
  package var principal: Principal
  /// The client's address, for the audit log.
  package var source: String?

  package var teamID: TeamID { principal.teamID }

  package init(principal: Principal, source: String? = nil) {
    self.principal = principal
    self.source = source
  }

  /// The same caller, on behalf of another team.
  func acting(in team: TeamID) -> Caller {
    var caller = self
    caller.principal.teamID = team
    return caller
  }

  /// - Throws: `forbidden` unless the principal is a user with a session.
  func user() throws(MartletError) -> UserID {
    try principal.requireUser()
    guard let id = principal.userID else { throw MartletError(.forbidden, "this needs a user's session") }
    return id
  }

  /// The user, whose rights the transaction of a change checks again; nil for API keys and for the system.
  var optionalActingUser: ActingUser? {
    principal.userID.map { ActingUser(id: $0, sessionEpoch: principal.sessionEpoch) }
  }

  /// - Throws: `forbidden` unless the principal is a user with a session.
  func actingUser() throws(MartletError) -> ActingUser {
    ActingUser(id: try user(), sessionEpoch: principal.sessionEpoch)
  }

  func audit(_ action: String, of type: String, _ id: String, outcome: String, at time: Date) -> AuditRecord {
    AuditRecord(
      teamID: teamID, actorType: principal.auditType, actorID: principal.auditID, action: action, targetType: type,
      targetID: id,
      outcome: outcome, source: source, createdAt: time)
  }

  func audit(_ action: String, _ id: SandboxID, outcome: String, at time: Date) -> AuditRecord {
    audit(action, of: "sandbox", id.wire, outcome: outcome, at: time)
  }

  static func system(_ team: TeamID) -> Caller {
    Caller(principal: Principal(kind: .system, teamID: team))
  }
}
