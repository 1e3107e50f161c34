package import Model

/// A user who changes access rights, as authenticated when the request began.
///
/// Between that moment and the change the server reads the request's body, which may take long. The transaction of the
/// change therefore checks the user's rights again: a user who was removed or lost the administrator role, or whose
/// password changed meanwhile, changes nothing.
package struct ActingUser: Sendable, Equatable {
  package var id: UserID
  /// The epoch of the user's session; nil accepts any session.
  package var sessionEpoch: Int?

  package init(id: UserID, sessionEpoch: Int? = nil) {
    self.id = id
    self.sessionEpoch = sessionEpoch
  }
}

/// The reason why a user may no longer make a change; nothing was written.
package enum AuthorizationRefusal: Error, Sendable, Equatable {
  case sessionIsOver
  case isNoMember
  case isNoAdministrator
  /// A member whose role in the team does not permit the change, or no longer does.
  case lacksRole
}

extension AuthorizationRefusal: MartletErrorConvertible {
  package var martletError: MartletError? {
    switch self {
    case .sessionIsOver: MartletError(.unauthorized, "the session has ended; log in again")
    case .isNoMember: MartletError(.noTeam, "you are no longer a member of this team; switch to another team")
    case .isNoAdministrator: MartletError(.forbidden, "only administrators of the platform may do this")
    case .lacksRole: MartletError(.forbidden, "your role in this team no longer permits this")
    }
  }
}

extension ActingUser {
  /// - Throws: `AuthorizationRefusal`.
  func requireMembership(in team: TeamID, _ connection: any SQLConnection) throws {
    try requireSession(connection)
    let membership = try connection.row(
      "SELECT 1 FROM memberships WHERE team_id = ? AND user_id = ?", [.uuid(team.uuid), .uuid(id.uuid)])
    guard membership != nil else { throw AuthorizationRefusal.isNoMember }
  }

  /// Requires a role in the team that has `right` at this moment.
  /// - Throws: `AuthorizationRefusal`.
  func requireRole(
    _ right: KeyPath<TeamRole, Bool>, in team: TeamID, _ connection: any SQLConnection
  ) throws {
    try requireSession(connection)
    guard let role = try TeamRepository.role(of: id, in: team, connection) else {
      throw AuthorizationRefusal.isNoMember
    }
    guard role[keyPath: right] else { throw AuthorizationRefusal.lacksRole }
  }

  /// - Throws: `AuthorizationRefusal`.
  func requireAdministrator(_ connection: any SQLConnection) throws {
    guard try requireSession(connection) else { throw AuthorizationRefusal.isNoAdministrator }
  }

  /// - Returns: whether the user is an administrator.
  @discardableResult
  private func requireSession(_ connection: any SQLConnection) throws -> Bool {
    guard let row = try connection.row("SELECT is_admin, session_epoch FROM users WHERE id = ?", [.uuid(id.uuid)])
    else {
      throw AuthorizationRefusal.sessionIsOver
    }
    let epoch = try row.integer(1)
    guard sessionEpoch == nil || sessionEpoch == epoch else { throw AuthorizationRefusal.sessionIsOver }
    return try row.bool(0)
  }
}
