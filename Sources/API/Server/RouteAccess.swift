import ControlPlane
import Model

/// The callers that a route admits.
package enum RouteAccess: String, Sendable, CaseIterable {
  /// Every client, without credentials.
  case open
  /// An API key or a user session that acts for a team.
  case team
  /// A user session.
  case user
  /// An administrator of the platform.
  case admin
  /// A program on this machine, or an administrator's session or key; enforced by `OperatorMiddleware`.
  case operators

  /// - Throws: `unauthorized`, `forbidden`, `no_team`.
  func check(_ context: APIContext) throws(MartletError) {
    switch self {
    case .open, .operators: return
    case .team: try principal(context).requireTeam()
    case .user: try principal(context).requireUser()
    case .admin: try principal(context).requireAdmin()
    }
  }

  private func principal(_ context: APIContext) throws(MartletError) -> Principal {
    try context.caller().principal
  }
}
