package import Foundation
package import Model

/// Tombstones: the database's record of deletions. A host removes what it holds only when there is one.
package struct TombstoneRepository: Sendable {
  /// Rows that are deleted in one transaction.
  package static let retentionBatch = 500

  private let database: any Database

  package init(database: any Database) {
    self.database = database
  }

  package func isDeleted(_ id: SandboxID) async throws -> Bool {
    try await database.query {
      try $0.row("SELECT 1 FROM sandbox_tombstones WHERE sandbox_id = ?", [.uuid(id.uuid)]) != nil
    }
  }

  /// Whether the snapshot that was made at `createdAt` was deleted, or its team was.
  package func isDeleted(_ name: SafeName, team: TeamID, createdAt: Date) async throws -> Bool {
    let moments = try await database.read { connection -> [Date]? in
      let team = SQLValue.uuid(team.uuid)
      if try connection.row("SELECT 1 FROM teams WHERE id = ? AND deleted_at IS NOT NULL", [team]) != nil { return nil }
      return try connection.rows(
        "SELECT created_at FROM snapshot_tombstones WHERE team_id = ? AND name = ?", [team, .text(name.value)]
      ).map { try $0.date(0) }
    }
    return moments?.contains { abs($0.timeIntervalSince(createdAt)) < Self.tolerance } ?? true
  }

  /// A time loses digits on its way from a host's journal into the database.
  private static let tolerance: TimeInterval = 0.001

  /// Records a deletion, and what the audit log says about it.
  package func bury(_ id: SandboxID, team: TeamID, at time: Date, audit: AuditRecord? = nil) async throws {
    try await database.write { connection in
      try Self.bury(id, team: team, at: time, connection)
      if let audit { try AuditRepository.insert(audit, connection) }
    }
  }

  /// Records the deletion of the snapshot that was made at `createdAt`.
  package func bury(
    _ name: SafeName, team: TeamID, createdAt: Date, at time: Date, audit: AuditRecord? = nil
  ) async throws {
    try await database.write { connection in
      try Self.bury(name, team: team, createdAt: createdAt, at: time, connection)
      if let audit { try AuditRepository.insert(audit, connection) }
    }
  }

  /// Deletes tombstones from before `time`, the oldest few.
  /// - Returns: how many; 0 when none is left.
  package func delete(before time: Date) async throws -> Int {
    try await database.write { connection in
      let sandboxes = try connection.execute(
        """
        DELETE FROM sandbox_tombstones WHERE sandbox_id IN (SELECT sandbox_id FROM sandbox_tombstones \
        WHERE deleted_at < ? ORDER BY deleted_at LIMIT \(Self.retentionBatch))
        """,
        [.timestamp(time)])
      let snapshots = try connection.execute(
        """
        DELETE FROM snapshot_tombstones WHERE (team_id, name, created_at) IN (SELECT team_id, name, created_at \
        FROM snapshot_tombstones WHERE deleted_at < ? ORDER BY deleted_at LIMIT \(Self.retentionBatch))
        """,
        [.timestamp(time)])
      return sandboxes + snapshots
    }
  }

  // MARK: Inside other transactions

  static func bury(_ id: SandboxID, team: TeamID, at time: Date, _ connection: any SQLConnection) throws {
    try connection.execute(
      """
      INSERT INTO sandbox_tombstones (sandbox_id, team_id, deleted_at) VALUES (?, ?, ?) \
      ON CONFLICT (sandbox_id) DO NOTHING
      """,
      [.uuid(id.uuid), .uuid(team.uuid), .timestamp(time)])
  }

  static func bury(
    _ name: SafeName, team: TeamID, createdAt: Date, at time: Date, _ connection: any SQLConnection
  ) throws {
    try connection.execute(
      """
      INSERT INTO snapshot_tombstones (team_id, name, created_at, deleted_at) VALUES (?, ?, ?, ?) \
      ON CONFLICT (team_id, name, created_at) DO NOTHING
      """,
      [.uuid(team.uuid), .text(name.value), .timestamp(createdAt), .timestamp(time)])
  }

  /// For the sandbox in the row that the transaction has just changed.
  static func buryRow(_ id: SandboxID, at time: Date, _ connection: any SQLConnection) throws {
    try connection.execute(
      """
      INSERT INTO sandbox_tombstones (sandbox_id, team_id, deleted_at) \
      SELECT id, team_id, CAST(? AS \(connection.dialect.timestampType)) FROM sandboxes WHERE id = ? \
      ON CONFLICT (sandbox_id) DO NOTHING
      """,
      [.timestamp(time), .uuid(id.uuid)])
  }

  static func buryAllSnapshots(of team: TeamID, at time: Date, _ connection: any SQLConnection) throws {
    try connection.execute(
      """
      INSERT INTO snapshot_tombstones (team_id, name, created_at, deleted_at) \
      SELECT team_id, name, created_at, CAST(? AS \(connection.dialect.timestampType)) FROM snapshots \
      WHERE team_id = ? ON CONFLICT (team_id, name, created_at) DO NOTHING
      """,
      [.timestamp(time), .uuid(team.uuid)])
  }

  static func buryAll(of team: TeamID, at time: Date, _ connection: any SQLConnection) throws {
    try connection.execute(
      """
      INSERT INTO sandbox_tombstones (sandbox_id, team_id, deleted_at) \
      SELECT id, team_id, CAST(? AS \(connection.dialect.timestampType)) FROM sandboxes \
      WHERE team_id = ? AND status = 'destroying' ON CONFLICT (sandbox_id) DO NOTHING
      """,
      [.timestamp(time), .uuid(team.uuid)])
  }
}
