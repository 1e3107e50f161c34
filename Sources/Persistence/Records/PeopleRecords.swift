package import Foundation
package import Model

package struct TeamRecord: Sendable, Equatable {
  package var id: TeamID
  package var name: String
  package var createdAt: Date
  /// Quotas that an administrator set for this team.
  package var quota: QuotaRecord

  package init(id: TeamID = TeamID(), name: String, createdAt: Date, quota: QuotaRecord = QuotaRecord()) {
    self.id = id
    self.name = name
    self.createdAt = StoredTime.rounded(createdAt)
    self.quota = quota
  }
}

/// Upper bounds on what a team holds at once; nil means the server's default.
package struct QuotaRecord: Sendable, Equatable {
  /// Sandboxes that run or are starting; `vcpus` and `memoryMiB` bound the sums over these sandboxes.
  package var sandboxes: Int?
  package var vcpus: Int?
  package var memoryMiB: Int?
  /// The disks of all sandboxes, the saved memory of paused ones, and named snapshots.
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
  /// The Argon2id hash in encoded form, including parameters and salt.
  package var passwordHash: String
  package var isAdmin: Bool
  package var createdAt: Date
  /// Sessions that carry another epoch have ended.
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

  /// Whether the role may rename the team, add and remove members, change roles, and delete keys of others.
  package var managesMembers: Bool { self != .member }
  /// Whether the role may delete the team and give it to another member.
  package var isOwner: Bool { self == .owner }
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

/// A membership from the user's point of view.
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

/// A membership from the team's point of view.
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

/// A user's rights, read from the database for each request.
package struct UserAccess: Sendable, Equatable {
  package var isAdmin: Bool
  package var sessionEpoch: Int
  /// The user's role in the session's team; nil if the user is no longer a member.
  package var role: TeamRole?
}

package struct APIKeyRecord: Sendable, Equatable {
  package var id: APIKeyID
  package var teamID: TeamID
  package var name: String
  /// The first characters of the key: enough to identify it, too few to guess it.
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
