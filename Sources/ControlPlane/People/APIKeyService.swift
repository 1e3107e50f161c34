import Foundation
package import Model
package import Persistence

/// A new API key with its secret, which is never available again.
package struct NewAPIKey: Sendable {
  package var record: APIKeyRecord
  package var secret: String
}

/// Manages the API keys of the session's team. All calls require a user's session.
package struct APIKeyService: Sendable {
  let keys: APIKeyRepository
  let audit: AuditLog
  let dependencies: Dependencies

  /// - Throws: `invalid_request`; `quota_exceeded` when the team has the maximum number of keys; `no_team` or
  ///   `unauthorized` if the user was removed or the session ended since the call began.
  package func create(name: String?, for caller: Caller) async throws -> NewAPIKey {
    let user = try caller.user()
    let name = try DisplayName(name ?? "key").value
    let secret = APIKeySecret.random()
    let now = dependencies.now()
    let record = APIKeyRecord(
      teamID: caller.teamID, name: name, keyPrefix: secret.shownPrefix, keyHash: secret.hash, createdBy: user,
      createdAt: now)
    try await audit.recordingFailure(
      caller.audit("api_key.create", of: "api_key", record.id.wire, outcome: "ok", at: now)
    ) {
      audit in
      guard
        try await keys.insert(
          record, maximum: Limits.keysPerTeam, sessionEpoch: caller.principal.sessionEpoch, audit: audit)
      else {
        throw MartletError(.quotaExceeded, "a team may have at most \(Limits.keysPerTeam) API keys; delete one first")
      }
    }
    return NewAPIKey(record: record, secret: secret.text)
  }

  /// Oldest first.
  package func list(_ page: ListPage, for caller: Caller) async throws -> [APIKeyRecord] {
    _ = try caller.user()
    return try await keys.list(team: caller.teamID, page)
  }

  /// Members may delete their own keys, owners and admins all keys of the team.
  /// - Throws: `not_found`, also for another team's key; `forbidden`.
  package func delete(_ id: APIKeyID, for caller: Caller) async throws {
    let user = try caller.user()
    guard let key = try await keys.key(id, team: caller.teamID) else { throw Self.notFound(id) }
    let now = dependencies.now()
    try await audit.recordingFailure(caller.audit("api_key.delete", of: "api_key", id.wire, outcome: "ok", at: now)) {
      audit in
      guard key.createdBy == user || caller.principal.role?.managesMembers == true else {
        throw MartletError(.forbidden, "only owners and admins of the team may delete keys of other members")
      }
      guard try await keys.delete(id, team: caller.teamID, by: caller.actingUser(), audit: audit) else {
        throw Self.notFound(id)
      }
    }
  }

  private static func notFound(_ id: APIKeyID) -> MartletError {
    MartletError(.notFound, "API key \(id) does not exist")
  }
}
