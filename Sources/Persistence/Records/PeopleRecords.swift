package import Foundation
package import Model

package struct TeamRecord: Sendable, Equatable {
  package var id: TeamID
  package var name: String
  package var createdAt: Date

  package init(id: TeamID = TeamID(), name: String, createdAt: Date) {
    self.id = id
    self.name = name
    self.createdAt = StoredTime.rounded(createdAt)
  }
}

package struct UserRecord: Sendable, Equatable {
  package var id: UserID
  /// Trimmed and lower-cased.
  package var email: String
  package var name: String
  /// Argon2id in its encoded form, parameters and salt included.
  package var passwordHash: String
  package var isAdmin: Bool
  package var createdAt: Date

  package init(id: UserID = UserID(), email: String, name: String, passwordHash: String, isAdmin: Bool, createdAt: Date) {
    self.id = id
    self.email = email
    self.name = name
    self.passwordHash = passwordHash
    self.isAdmin = isAdmin
    self.createdAt = StoredTime.rounded(createdAt)
  }
}

package enum TeamRole: String, Sendable, CaseIterable {
  case owner
  case admin
  case member
}

package struct MembershipRecord: Sendable, Equatable {
  package var teamID: TeamID
  package var userID: UserID
  package var role: TeamRole
  package var isDefault: Bool
  package var joinedAt: Date

  package init(teamID: TeamID, userID: UserID, role: TeamRole, isDefault: Bool, joinedAt: Date) {
    self.teamID = teamID
    self.userID = userID
    self.role = role
    self.isDefault = isDefault
    self.joinedAt = StoredTime.rounded(joinedAt)
  }
}

package struct APIKeyRecord: Sendable, Equatable {
  package var id: APIKeyID
  package var teamID: TeamID
  package var name: String
  /// The key's first characters, enough to recognise it and useless to guess it.
  package var keyPrefix: String
  /// SHA-256 of the secret part.
  package var keyHash: [UInt8]
  package var createdBy: UserID?
  package var createdAt: Date
  package var lastUsed: Date?

  package init(
    id: APIKeyID = APIKeyID(), teamID: TeamID, name: String, keyPrefix: String, keyHash: [UInt8], createdBy: UserID?, createdAt: Date,
    lastUsed: Date? = nil
  ) {
    self.id = id
    self.teamID = teamID
    self.name = name
    self.keyPrefix = keyPrefix
    self.keyHash = keyHash
    self.createdBy = createdBy
    self.createdAt = StoredTime.rounded(createdAt)
    self.lastUsed = lastUsed.map(StoredTime.rounded)
  }
}

/// Who did what to which thing, and how it ended (DB-5).
package struct AuditRecord: Sendable, Equatable {
  package var teamID: TeamID
  /// `api_key`, `user` or `system`.
  package var actorType: String
  package var actorID: String
  /// `sandbox.create`, `file.write`, …
  package var action: String
  package var targetType: String
  package var targetID: String
  /// `ok`, or the error's code.
  package var outcome: String
  /// Address of the client.
  package var source: String?
  package var createdAt: Date

  package init(
    teamID: TeamID, actorType: String, actorID: String, action: String, targetType: String, targetID: String, outcome: String,
    source: String?, createdAt: Date
  ) {
    self.teamID = teamID
    self.actorType = actorType
    self.actorID = actorID
    self.action = action
    self.targetType = targetType
    self.targetID = targetID
    self.outcome = outcome
    self.source = source
    self.createdAt = StoredTime.rounded(createdAt)
  }
}
