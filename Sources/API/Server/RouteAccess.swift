import ControlPlane
import Model

/// Who may use a route.
package enum RouteAccess: String, Sendable, CaseIterable {
  /// Everybody.
  case open
  /// An API key, or a person with a session, on behalf of a team.
  case team
  /// A person with a session.
  case user
  /// An administrator of the platform.
  case admin
  /// A program on this machine, or an administrator's session or key; `OperatorMiddleware` decides.
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
