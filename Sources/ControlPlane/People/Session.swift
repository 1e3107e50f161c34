package import Foundation
package import Model

/// A user's login session, for one of their teams.
package struct Session: Sendable, Equatable {
  /// How long a session is valid, in seconds.
  package static let lifetime: TimeInterval = 6 * 3_600

  package var token: String
  package var userID: UserID
  package var teamID: TeamID
  package var email: String
  package var name: String
  package var expiresAt: Date
}

/// A user's own account data.
package struct Profile: Sendable, Equatable {
  package var userID: UserID
  package var email: String
  package var name: String
  package var isAdmin: Bool
  package var createdAt: Date
}
