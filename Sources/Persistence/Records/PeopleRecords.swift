package import Foundation
package import Model

package struct TeamRecord: Sendable, Equatable {
  package var id: TeamID
  package var name: String
  package var createdAt: Date
  /// What an administrator set for this team.
  package var quota: QuotaRecord

  package init(id: TeamID = TeamID(), name: String, createdAt: Date, quota: QuotaRecord = QuotaRecord()) {
    self.id = id
    self.name = name
    self.createdAt = StoredTime.rounded(createdAt)
    self.quota = quota
  }
}

/// Bounds on what a team may hold at once; nil is the server's default.
package struct QuotaRecord: Sendable, Equatable {
  /// Sandboxes that run or are about to; the vCPUs and memory are those of these sandboxes.
  package var sandboxes: Int?
  package var vcpus: Int?
  package var memoryMiB: Int?
  /// Disks of all sandboxes, the saved memory of paused ones, and named snapshots.
  package var diskMiB: Int?
  /// Named snapshots.
  package var snapshots: Int?

  package init(
    sandboxes: Int? = nil, vcpus: Int? = nil, memoryMiB: Int? = nil, diskMiB: Int? = nil, snapshots: Int? = nil
  ) {
    self.sandboxes = sandboxes
    self.vcpus = vcpus
    self.memoryMiB = memoryMiB
    self.diskMiB = diskMiB
    self.snapshots = snapshots
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
  /// Sessions that carry another number are over.
  package var sessionEpoch: Int

  package init(
    id: UserID = UserID(), email: String, name: String, passwordHash: String, isAdmin: Bool, createdAt: Date,
    sessionEpoch: Int = 0
  ) {
    self.id = id
    self.email = email
    self.name = name
    self.passwordHash = passwordHash
    self.isAdmin = isAdmin
    self.createdAt = StoredTime.rounded(createdAt)
    self.sessionEpoch = sessionEpoch
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

/// A team as one of its members sees it.
package struct TeamMembership: Sendable, Equatable {
  package var team: TeamRecord
  package var role: TeamRole
  package var isDefault: Bool
  package var joinedAt: Date

  package init(team: TeamRecord, role: TeamRole, isDefault: Bool, joinedAt: Date) {
    self.team = team
    self.role = role
    self.isDefault = isDefault
    self.joinedAt = joinedAt
  }
}

/// A member as the team sees them.
package struct TeamMember: Sendable, Equatable {
  package var user: UserID
  package var email: String
  package var name: String
  package var role: TeamRole
  package var joinedAt: Date

  package init(user: UserID, email: String, name: String, role: TeamRole, joinedAt: Date) {
    self.user = user
    self.email = email
    self.name = name
    self.role = role
    self.joinedAt = joinedAt
  }
}

/// What decides about a user's call, read anew for each of them (AUTH-4).
package struct UserAccess: Sendable, Equatable {
  package var isAdmin: Bool
  package var sessionEpoch: Int
  /// Role in the team of the session; nil for those who are no members any more.
  package var role: TeamRole?
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
    id: APIKeyID = APIKeyID(), teamID: TeamID, name: String, keyPrefix: String, keyHash: [UInt8], createdBy: UserID?,
    createdAt: Date,
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
