package import Foundation
package import Model

/// Stores teams. A deleted team does not exist for any of these calls.
package struct TeamRepository: Sendable {
  let database: any Database

  package init(database: any Database) {
    self.database = database
  }

  package func team(_ id: TeamID) async throws -> TeamRecord? {
    try await database.query { connection in
      try connection.row(
        "SELECT \(Self.columns) FROM teams WHERE id = ? AND deleted_at IS NULL", [.uuid(id.uuid)]
      ).map { try Self.record($0) }
    }
  }

  /// All teams, oldest first.
  package func teams(_ page: ListPage) async throws -> [TeamRecord] {
    let (sql, parameters) = page.clause(time: "created_at", id: "id")
    return try await database.query { connection in
      try connection.rows("SELECT \(Self.columns) FROM teams WHERE deleted_at IS NULL\(sql)", parameters).map {
        try Self.record($0)
      }
    }
  }

  /// Creates a team with its owner.
  /// - Returns: false when the owner is in `maximumTeams` teams already.
  package func create(
    _ team: TeamRecord, owner: MembershipRecord, maximumTeams: Int, audit: AuditRecord
  ) async throws -> Bool {
    try await database.write { connection in
      let count =
        try connection.row("SELECT COUNT(*) FROM memberships WHERE user_id = ?", [.uuid(owner.userID.uuid)])?.integer(0)
        ?? 0
      guard count < maximumTeams else { return false }
      try Self.insert(team, connection)
      try Self.insert(owner, connection)
      try AuditRepository.insert(audit, connection)
      return true
    }
  }

  /// - Parameter actor: the member who does it, whose role is checked in the transaction.
  /// - Returns: whether the team exists.
  /// - Throws: `AuthorizationRefusal`.
  package func rename(
    _ id: TeamID, to name: String, by actor: ActingUser? = nil, audit: AuditRecord
  ) async throws -> Bool {
    try await change(
      "UPDATE teams SET name = ? WHERE id = ? AND deleted_at IS NULL", [.text(name), .uuid(id.uuid)], audit
    ) { connection in
      // Changes of members wait for this transaction, so that the role is the one at its end.
      guard try Self.lock(id, connection) else { return }
      try actor?.requireRole(\.managesMembers, in: id, connection)
    }
  }

  /// - Returns: whether the team exists.
  /// - Throws: `AuthorizationRefusal`.
  package func setQuota(
    _ id: TeamID, _ quota: QuotaRecord, by administrator: ActingUser? = nil, audit: AuditRecord
  ) async throws -> Bool {
    try await change(
      """
      UPDATE teams SET max_sandboxes = ?, max_vcpus = ?, max_memory_mb = ?, max_disk_mb = ?, max_snapshots = ? \
      WHERE id = ? AND deleted_at IS NULL
      """,
      [
        .optional(quota.sandboxes), .optional(quota.vcpus), .optional(quota.memoryMiB), .optional(quota.diskMiB),
        .optional(quota.snapshots), .uuid(id.uuid),
      ], audit
    ) { try administrator?.requireAdministrator($0) }
  }

  /// Deletes a team for good, in one transaction: deletes its memberships and keys, and marks all its sandboxes and
  /// snapshots for destruction.
  ///
  /// The team's row stays, because sandboxes that are being destroyed and the audit log refer to it.
  /// - Parameter actor: the owner, whose role is checked in the transaction.
  /// - Returns: the sandboxes that hosts must destroy; nil when the team does not exist.
  /// - Throws: `AuthorizationRefusal`.
  package func delete(
    _ id: TeamID, at time: Date, by actor: ActingUser? = nil, audit: AuditRecord
  ) async throws -> [SandboxRecord]? {
    try await database.write { connection in
      guard try Self.lock(id, connection) else { return nil }
      try actor?.requireRole(\.isOwner, in: id, connection)
      let deleted = try connection.execute(
        "UPDATE teams SET deleted_at = ? WHERE id = ? AND deleted_at IS NULL", [.timestamp(time), .uuid(id.uuid)])
      guard deleted == 1 else { return nil }
      try connection.execute("DELETE FROM memberships WHERE team_id = ?", [.uuid(id.uuid)])
      try connection.execute("DELETE FROM api_keys WHERE team_id = ?", [.uuid(id.uuid)])
      try connection.execute("DELETE FROM idempotency_keys WHERE team_id = ?", [.uuid(id.uuid)])
      try connection.execute(
        """
        UPDATE snapshots SET status = 'deleting', last_updated = ?, revision = revision + 1 \
        WHERE team_id = ? AND status <> 'deleting'
        """,
        [.timestamp(time), .uuid(id.uuid)])
      try TombstoneRepository.buryAllSnapshots(of: id, at: time, connection)
      try AuditRepository.insert(audit, connection)
      return try SandboxRepository.markAllDestroying(of: id, at: time, actor: audit, connection)
    }
  }

  func change(
    _ sql: String, _ parameters: [SQLValue], _ audit: AuditRecord,
    when isAllowed: @escaping @Sendable (any SQLConnection) throws -> Void = { _ in }
  ) async throws -> Bool {
    try await database.write { connection in
      try isAllowed(connection)
      guard try connection.execute(sql, parameters) == 1 else { return false }
      try AuditRepository.insert(audit, connection)
      return true
    }
  }

  static let columns =
    "teams.id, teams.name, teams.created_at, max_sandboxes, max_vcpus, max_memory_mb, max_disk_mb, max_snapshots"

  static func insert(_ team: TeamRecord, _ connection: any SQLConnection) throws {
    try connection.execute(
      "INSERT INTO teams (id, name, created_at) VALUES (?, ?, ?)",
      [.uuid(team.id.uuid), .text(team.name), .timestamp(team.createdAt)])
  }

  /// - Parameter first: the position of the first team column in the row.
  static func record(_ row: SQLRow, at first: Int = 0) throws -> TeamRecord {
    TeamRecord(
      id: TeamID(try row.uuid(first)), name: try row.text(first + 1), createdAt: try row.date(first + 2),
      quota: QuotaRecord(
        sandboxes: try row.optionalInteger(first + 3), vcpus: try row.optionalInteger(first + 4),
        memoryMiB: try row.optionalInteger(first + 5), diskMiB: try row.optionalInteger(first + 6),
        snapshots: try row.optionalInteger(first + 7)))
  }
}
