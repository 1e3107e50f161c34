package import Foundation
package import Model

/// A person who has logged in, for one of their teams.
package struct Session: Sendable, Equatable {
  /// How long it lasts (AUTH-2).
  package static let lifetime: TimeInterval = 6 * 3_600

  package var token: String
  package var userID: UserID
  package var teamID: TeamID
  package var email: String
  package var name: String
  package var expiresAt: Date
}

/// What a person sees of themselves.
package struct Profile: Sendable, Equatable {
  package var userID: UserID
  package var email: String
  package var name: String
  package var isAdmin: Bool
  package var createdAt: Date
}
