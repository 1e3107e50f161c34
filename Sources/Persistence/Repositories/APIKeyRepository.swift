package import Foundation
package import Model

/// API keys; at rest there is only their hash (KEY-2).
package struct APIKeyRepository: Sendable {
  private let database: any Database

  package init(database: any Database) {
    self.database = database
  }

  package func insert(_ key: APIKeyRecord, audit: AuditRecord) async throws {
    try await database.write { connection in
      try Self.insert(key, connection)
      try AuditRepository.insert(audit, connection)
    }
  }

  /// The key with this hash, when its team exists still (L-63: a deleted team takes its keys along).
  package func key(hash: [UInt8]) async throws -> APIKeyRecord? {
    try await database.lookUp("SELECT \(Self.columns) FROM api_keys WHERE key_hash = ?", [.blob(hash)]).map(Self.record)
  }

  package func list(team: TeamID) async throws -> [APIKeyRecord] {
    try await database.query { connection in
      try connection.rows("SELECT \(Self.columns) FROM api_keys WHERE team_id = ? ORDER BY created_at, id", [.uuid(team.uuid)])
        .map(Self.record)
    }
  }

  /// - Returns: whether the key existed in this team.
  package func delete(_ id: APIKeyID, team: TeamID, audit: AuditRecord) async throws -> Bool {
    try await database.write { connection in
      let changed = try connection.execute("DELETE FROM api_keys WHERE id = ? AND team_id = ?", [.uuid(id.uuid), .uuid(team.uuid)])
      guard changed == 1 else { return false }
      try AuditRepository.insert(audit, connection)
      return true
    }
  }

  /// Notes the last use of many keys in one transaction.
  package func touch(_ uses: [APIKeyID: Date]) async throws {
    guard !uses.isEmpty else { return }
    try await database.write { connection in
      for (id, time) in uses {
        try connection.execute("UPDATE api_keys SET last_used = ? WHERE id = ?", [.timestamp(time), .uuid(id.uuid)])
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

  private static func record(_ row: SQLRow) throws -> APIKeyRecord {
    APIKeyRecord(
      id: APIKeyID(try row.uuid(0)), teamID: TeamID(try row.uuid(1)), name: try row.text(2), keyPrefix: try row.text(3),
      keyHash: try row.blob(4), createdBy: try row.optionalUUID(5).map { UserID($0) }, createdAt: try row.date(6),
      lastUsed: try row.optionalDate(7))
  }
}
