import ControlPlane
import Foundation
import Model
import Persistence

extension Wire {
  static func session(_ session: Session) -> JSONValue {
    [
      "token": .string(session.token), "user_id": .string(session.userID.wire), "team_id": .string(session.teamID.wire),
      "email": .string(session.email), "name": .string(session.name),
      "expires_at": .string(RFC3339.text(session.expiresAt)),
    ]
  }

  static func profile(_ profile: Profile) -> JSONValue {
    [
      "user_id": .string(profile.userID.wire), "email": .string(profile.email), "name": .string(profile.name),
      "is_admin": .bool(profile.isAdmin), "created_at": .string(RFC3339.text(profile.createdAt)),
    ]
  }

  static func key(_ key: APIKeyRecord) -> JSONValue {
    [
      "id": .string(key.id.wire), "team_id": .string(key.teamID.wire), "name": .string(key.name),
      "key_prefix": .string(key.keyPrefix),
      "created_by": .optional(key.createdBy?.wire), "created_at": .string(RFC3339.text(key.createdAt)),
      "last_used": .optional(key.lastUsed.map(RFC3339.text)),
    ]
  }

  static func team(_ membership: TeamMembership) -> JSONValue {
    [
      "id": .string(membership.team.id.wire), "name": .string(membership.team.name),
      "role": .string(membership.role.rawValue),
      "is_default": .bool(membership.isDefault), "created_at": .string(RFC3339.text(membership.team.createdAt)),
      "joined_at": .string(RFC3339.text(membership.joinedAt)),
    ]
  }

  static func member(_ member: TeamMember) -> JSONValue {
    [
      "user_id": .string(member.user.wire), "email": .string(member.email), "name": .string(member.name),
      "role": .string(member.role.rawValue), "joined_at": .string(RFC3339.text(member.joinedAt)),
    ]
  }

  static func audit(_ id: String, _ record: AuditRecord) -> JSONValue {
    [
      "id": .string(id), "team_id": .string(record.teamID.wire), "actor_type": .string(record.actorType),
      "actor_id": .string(record.actorID), "action": .string(record.action), "target_type": .string(record.targetType),
      "target_id": .string(record.targetID), "outcome": .string(record.outcome), "source": .optional(record.source),
      "created_at": .string(RFC3339.text(record.createdAt)),
    ]
  }

  static func quota(_ quota: QuotaRecord) -> JSONValue {
    [
      "max_sandboxes": .optional(quota.sandboxes), "max_vcpus": .optional(quota.vcpus),
      "max_memory_mb": .optional(quota.memoryMiB),
      "max_disk_mb": .optional(quota.diskMiB), "max_snapshots": .optional(quota.snapshots),
    ]
  }

  static func usage(_ usage: TeamUsage) -> JSONValue {
    [
      "sandboxes": .integer(usage.sandboxes), "vcpus": .integer(usage.vcpus), "memory_mb": .integer(usage.memoryMiB),
      "disk_mb": .integer(usage.diskMiB), "snapshots": .integer(usage.snapshots),
    ]
  }
}

extension JSONValue {
  static func optional(_ number: Int?) -> JSONValue { number.map { .integer($0) } ?? .null }
}
