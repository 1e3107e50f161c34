package import Foundation
package import Model

/// API keys; at rest there is only their hash (KEY-2).
package struct APIKeyRepository: Sendable {
  private let database: any Database

  package init(database: any Database) {
    self.database = database
  }

  /// - Parameter sessionEpoch: of the session in which `createdBy` makes it; nil is any.
  /// - Returns: false when there is no such team, or it has `maximum` keys already.
  /// - Throws: `AuthorizationRefusal` when `createdBy` is no member of the team any more, or the session is over.
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

  /// The key with this hash; a deleted team has taken its keys along (L-63).
  package func key(hash: [UInt8]) async throws -> APIKeyRecord? {
    try await find(hash: hash).value
  }

  package func find(hash: [UInt8]) async throws -> Finding<APIKeyRecord?> {
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

  /// - Returns: whether the key existed in this team.
  package func delete(_ id: APIKeyID, team: TeamID, audit: AuditRecord) async throws -> Bool {
    try await database.write { connection in
      let changed = try connection.execute(
        "DELETE FROM api_keys WHERE id = ? AND team_id = ?", [.uuid(id.uuid), .uuid(team.uuid)])
      guard changed == 1 else { return false }
      try AuditRepository.insert(audit, connection)
      return true
    }
  }

  /// Notes the last use of many keys, some in one transaction. Doing it twice changes nothing.
  package func touch(_ uses: [APIKeyID: Date]) async throws {
    // In one order everywhere, so that two servers do not wait for each other.
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
