package import Foundation
package import Model

/// Stores API keys, of which only the hash is kept.
package struct APIKeyRepository: Sendable {
  private let database: any Database

  package init(database: any Database) {
    self.database = database
  }

  /// - Parameter sessionEpoch: the epoch of the session in which `createdBy` creates the key; nil accepts any.
  /// - Returns: false when the team does not exist or already has `maximum` keys.
  /// - Throws: `AuthorizationRefusal` when `createdBy` is no longer a member of the team, or the session has ended.
  @discardableResult
  package func insert(
    _ key: APIKeyRecord, maximum: Int = .max, sessionEpoch: Int? = nil, audit: AuditRecord
  ) async throws -> Bool {
    try await database.write { connection in
      guard try TeamRepository.lock(key.teamID, connection) else { return false }
      if let creator = key.createdBy {
        try ActingUser(id: creator, sessionEpoch: sessionEpoch).requireMembership(in: key.teamID, connection)
      }
      let count =
        try connection.row("SELECT COUNT(*) FROM api_keys WHERE team_id = ?", [.uuid(key.teamID.uuid)])?.integer(0) ?? 0
      guard count < maximum else { return false }
      try Self.insert(key, connection)
      try AuditRepository.insert(audit, connection)
      return true
    }
  }

  /// The key with this hash. Deleting a team deletes its keys.
  package func key(hash: [UInt8]) async throws -> APIKeyRecord? {
    try await find(hash: hash).value
  }

  package func find(hash: [UInt8]) async throws -> LookUpResult<APIKeyRecord?> {
    try await database.find(Self.byHash, [.blob(hash)], notBefore: nil).map { try $0.map(Self.record) }
  }

  package func key(_ id: APIKeyID, team: TeamID) async throws -> APIKeyRecord? {
    try await database.query { connection in
      try connection.row(
        "SELECT \(Self.columns) FROM api_keys WHERE id = ? AND team_id = ?", [.uuid(id.uuid), .uuid(team.uuid)]
      )
      .map(Self.record)
    }
  }

  /// Oldest first.
  package func list(team: TeamID, _ page: ListPage = ListPage(limit: 100)) async throws -> [APIKeyRecord] {
    let (sql, parameters) = page.clause(time: "created_at", id: "id")
    return try await database.query { connection in
      try connection.rows(
        "SELECT \(Self.columns) FROM api_keys WHERE team_id = ?\(sql)", [.uuid(team.uuid)] + parameters
      )
      .map(Self.record)
    }
  }

  /// - Parameter actor: the member who deletes the key: their own, or with the role owner or admin any. The role is
  ///   checked again in the transaction.
  /// - Returns: whether this team had the key.
  /// - Throws: `AuthorizationRefusal`.
  package func delete(
    _ id: APIKeyID, team: TeamID, by actor: ActingUser? = nil, audit: AuditRecord
  ) async throws -> Bool {
    try await database.write { connection in
      if let actor {
        guard try TeamRepository.lock(team, connection) else { return false }
        let creator = try connection.row(
          "SELECT created_by FROM api_keys WHERE id = ? AND team_id = ?", [.uuid(id.uuid), .uuid(team.uuid)])
        guard let creator else { return false }
        if try creator.optionalUUID(0) == actor.id.uuid {
          try actor.requireMembership(in: team, connection)
        } else {
          try actor.requireRole(\.managesMembers, in: team, connection)
        }
      }
      let changed = try connection.execute(
        "DELETE FROM api_keys WHERE id = ? AND team_id = ?", [.uuid(id.uuid), .uuid(team.uuid)])
      guard changed == 1 else { return false }
      try AuditRepository.insert(audit, connection)
      return true
    }
  }

  /// Records when keys were last used, many in one transaction. Idempotent.
  package func touch(_ uses: [APIKeyID: Date]) async throws {
    // Updates in one fixed order, so that two servers do not deadlock.
    for batch in uses.sorted(by: { $0.key.wire < $1.key.wire }).batches {
      try await database.write { connection in
        for (id, time) in batch {
          try connection.execute("UPDATE api_keys SET last_used = ? WHERE id = ?", [.timestamp(time), .uuid(id.uuid)])
        }
      }
    }
  }

  static func insert(_ key: APIKeyRecord, _ connection: any SQLConnection) throws {
    try connection.execute(
      "INSERT INTO api_keys (\(columns)) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
      [
        .uuid(key.id.uuid), .uuid(key.teamID.uuid), .text(key.name), .text(key.keyPrefix), .blob(key.keyHash),
        .optional(key.createdBy?.uuid), .timestamp(key.createdAt), .optional(key.lastUsed),
      ])
  }

  private static let columns = "id, team_id, name, key_prefix, key_hash, created_by, created_at, last_used"
  private static let byHash = "SELECT \(columns) FROM api_keys WHERE key_hash = ?"

  private static func record(_ row: SQLRow) throws -> APIKeyRecord {
    APIKeyRecord(
      id: APIKeyID(try row.uuid(0)), teamID: TeamID(try row.uuid(1)), name: try row.text(2), keyPrefix: try row.text(3),
      keyHash: try row.blob(4), createdBy: try row.optionalUUID(5).map { UserID($0) }, createdAt: try row.date(6),
      lastUsed: try row.optionalDate(7))
  }
}
