package import Model

/// A person who changes who may do what, as their session showed them when the request began.
///
/// Between that moment and the change lies the request's body, which may take its time. So the transaction of the
/// change asks again: who was removed, dismissed or has a new password meanwhile changes nothing (L-63).
package struct ActingUser: Sendable, Equatable {
  package var id: UserID
  /// Nil: of whatever session.
  package var sessionEpoch: Int?

  package init(id: UserID, sessionEpoch: Int? = nil) {
    self.id = id
    self.sessionEpoch = sessionEpoch
  }
}

/// Why somebody may not make a change any more; nothing was written.
package enum AuthorizationRefusal: Error, Sendable, Equatable {
  case sessionIsOver
  case isNoMember
  case isNoAdministrator
}

extension AuthorizationRefusal: MartletErrorConvertible {
  package var martletError: MartletError? {
    switch self {
    case .sessionIsOver: MartletError(.unauthorized, "the session is over; log in again")
    case .isNoMember: MartletError(.noTeam, "you are no member of this team any more; switch to another one")
    case .isNoAdministrator: MartletError(.forbidden, "this is for administrators of the platform")
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

  /// - Throws: `AuthorizationRefusal`.
  func requireAdministrator(_ connection: any SQLConnection) throws {
    guard try requireSession(connection) else { throw AuthorizationRefusal.isNoAdministrator }
  }

  /// - Returns: whether the person administers the platform.
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
