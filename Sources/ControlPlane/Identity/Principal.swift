import Foundation
package import Model
package import Persistence

/// Who makes a call, and for which team.
package struct Principal: Sendable, Equatable {
  package enum Kind: Sendable, Equatable {
    case apiKey(APIKeyID)
    case user(UserID)
    case system
  }

  package var kind: Kind
  package var teamID: TeamID
  /// What the principal is in the team; nil for a person who was a member when the session began and is not any more.
  package var role: TeamRole?
  /// Whether the person administers the platform.
  package var isAdmin: Bool
  /// Number of the person's session; nil for those who came without one.
  package var sessionEpoch: Int?

  package init(kind: Kind, teamID: TeamID, role: TeamRole? = .member, isAdmin: Bool = false, sessionEpoch: Int? = nil) {
    self.kind = kind
    self.teamID = teamID
    self.role = role
    self.isAdmin = isAdmin
    self.sessionEpoch = sessionEpoch
  }

  /// Nil for keys and for the system.
  package var userID: UserID? {
    guard case .user(let id) = kind else { return nil }
    return id
  }

  /// - Throws: `no_team` for a person who is no member of the session's team any more (L-63).
  package func requireTeam() throws(MartletError) {
    guard role != nil else {
      throw MartletError(.noTeam, "you are no member of this team any more; switch to another one")
    }
  }

  /// - Throws: `forbidden` for whoever is not a person with a session.
  package func requireUser() throws(MartletError) {
    guard userID != nil else {
      throw MartletError(
        .forbidden, "this needs the session of a person, not an API key; log in and send the session's token")
    }
  }

  /// - Throws: `forbidden` for whoever does not administer the platform.
  package func requireAdmin() throws(MartletError) {
    try requireUser()
    guard isAdmin else { throw MartletError(.forbidden, "this is for administrators of the platform") }
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

/// A principal and where its call came from.
package struct Caller: Sendable, Equatable {
  package var principal: Principal
  /// Address of the client, for the audit log.
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

  /// - Throws: `forbidden` for whoever is not a person with a session.
  func user() throws(MartletError) -> UserID {
    try principal.requireUser()
    guard let id = principal.userID else { throw MartletError(.forbidden, "this needs the session of a person") }
    return id
  }

  /// The person, to be asked for again in the transaction of a change; nil for keys and for the system.
  var person: ActingUser? {
    principal.userID.map { ActingUser(id: $0, sessionEpoch: principal.sessionEpoch) }
  }

  /// - Throws: `forbidden` for whoever is not a person with a session.
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
