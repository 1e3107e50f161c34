import Foundation
package import Model

/// Stores named snapshots. Every read for a tenant contains the team in its query.
package struct SnapshotRepository: Sendable {
  private let database: any Database

  package init(database: any Database) {
    self.database = database
  }

  /// The worker that the repository records in the rows that it changes.
  package var worker: WorkerID { database.worker }

  // MARK: Reading

  /// The team's own snapshot of this name, regardless of its status.
  package func snapshot(_ name: SafeName, team: TeamID) async throws -> SnapshotRecord? {
    try await database.query { connection in
      try connection.row(
        "SELECT \(Self.columns) FROM snapshots WHERE team_id = ? AND name = ?", [.uuid(team.uuid), .text(name.value)]
      ).map(Self.record)
    }
  }

  /// The snapshot that this name denotes for a team: its own, else the platform's.
  package func visible(_ name: SafeName, to team: TeamID) async throws -> SnapshotRecord? {
    try await database.query { connection in
      try connection.row(
        """
        SELECT \(Self.columns) FROM snapshots WHERE team_id IN (?, ?) AND name = ? \
        AND status IN ('ready', 'replacing') ORDER BY team_id DESC LIMIT 1
        """, [.uuid(team.uuid), .uuid(TeamID.platform.uuid), .text(name.value)]
      ).map(Self.record)
    }
  }

  /// Snapshots that a team sees: its own and the platform's, ordered by name.
  /// - Parameter after: the last name of the previous page.
  package func visible(to team: TeamID, after: SafeName? = nil, limit: Int) async throws -> [SnapshotRecord] {
    try await database.query { connection in
      try connection.rows(
        """
        SELECT \(Self.columns) FROM snapshots WHERE team_id IN (?, ?) AND status IN ('ready', 'replacing') \
        AND name > ? ORDER BY name, team_id DESC LIMIT ?
        """, [.uuid(team.uuid), .uuid(TeamID.platform.uuid), .text(after?.value ?? ""), .integer(limit)]
      ).map(Self.record)
    }
  }

  /// All snapshots of all teams; for the monitor.
  package func all() async throws -> [SnapshotRecord] {
    try await database.query { try $0.rows("SELECT \(Self.columns) FROM snapshots").map(Self.record) }
  }

  /// Snapshots of all teams that are being created, replaced or deleted; for the monitor.
  package func inTransition() async throws -> [SnapshotRecord] {
    try await database.query {
      try $0.rows("SELECT \(Self.columns) FROM snapshots WHERE status <> 'ready'").map(Self.record)
    }
  }

  // MARK: Writing

  /// Inserts a row unless the team has a snapshot of this name: of two racing calls one succeeds.
  /// - Returns: whether the row was inserted.
  /// - Throws: `AdmissionRefusal`; `teamIsGone` for a team that does not exist or was deleted. The row of a deleted
  ///   team stays, so a foreign key does not detect that.
  /// - Parameter quota: default bounds for the team, whose usage must permit one more snapshot with the memory size of
  ///   `record`; nil skips the check, for a snapshot whose files exist already.
  package func insert(
    _ record: SnapshotRecord, quota: QuotaRecord? = nil, audit: AuditRecord? = nil
  ) async throws -> Bool {
    try await database.write { connection in
      guard try TeamRepository.lock(record.teamID, connection) else { throw AdmissionRefusal.teamIsGone }
      if let quota {
        let requested = TeamUsage(diskMiB: record.memoryMiB, snapshots: 1)
        try SandboxRepository.check(requested, record.teamID, quota, connection)
      }
      let changed = try connection.execute(
        "INSERT INTO snapshots (\(Self.columns)) VALUES (\(Self.placeholders)) ON CONFLICT (team_id, name) DO NOTHING",
        Self.parameters(record, by: database.worker))
      guard changed == 1 else { return false }
      if let audit { try AuditRepository.insert(audit, connection) }
      return true
    }
  }

  /// Replaces a row as it was read by `next`. Does nothing if the row has changed since.
  /// - Returns: whether the row was replaced.
  /// - Throws: `AdmissionRefusal.teamIsGone` when the team was deleted and `next` is not a deletion.
  package func replace(
    _ record: SnapshotRecord, with next: SnapshotRecord, audit: AuditRecord? = nil
  ) async throws -> Bool {
    precondition(
      record.status != .deleting || next.status == .deleting,
      "a snapshot that is being deleted cannot change to another state")
    return try await database.write { connection in
      if next.status != .deleting, try !TeamRepository.lock(record.teamID, connection) {
        throw AdmissionRefusal.teamIsGone
      }
      let changed = try connection.execute(
        """
        UPDATE snapshots SET status = ?, vcpus = ?, memory_mb = ?, disk_size_mb = ?, size_bytes = ?, host_id = ?, \
        source_id = ?, created_at = ?, last_updated = ?, worker = ?, revision = revision + 1 \
        WHERE \(Self.isUnchanged)
        """,
        [
          .text(next.status.rawValue), .integer(next.vcpus), .integer(next.memoryMiB), .integer(next.diskSizeMiB),
          .integer(next.sizeBytes), .uuid(next.hostID.uuid), .optional(next.sourceID?.uuid), .timestamp(next.createdAt),
          .timestamp(next.lastUpdated), database.worker.value,
        ] + Self.identity(record))
      guard changed == 1 else { return false }
      if Self.replacesFiles(record, next) {
        try TombstoneRepository.bury(
          record.name, team: record.teamID, createdAt: record.createdAt, at: next.lastUpdated, connection)
      }
      if let audit { try AuditRepository.insert(audit, connection) }
      return true
    }
  }

  /// Whether the change deletes the snapshot that the row described: as such, or by a newer one with its name.
  private static func replacesFiles(_ record: SnapshotRecord, _ next: SnapshotRecord) -> Bool {
    guard next.status != .deleting else { return true }
    return record.status == .replacing && next.status == .ready && record.createdAt != next.createdAt
  }

  /// Deletes a row as it was read. Does nothing if the row has changed since.
  /// - Returns: whether the row was deleted.
  package func remove(_ record: SnapshotRecord, audit: AuditRecord? = nil) async throws -> Bool {
    try await database.write { connection in
      let changed = try connection.execute(
        "DELETE FROM snapshots WHERE \(Self.isUnchanged)", Self.identity(record))
      guard changed == 1 else { return false }
      if let audit { try AuditRepository.insert(audit, connection) }
      return true
    }
  }

  // MARK: Rows

  private static let columns = """
    team_id, name, status, vcpus, memory_mb, disk_size_mb, size_bytes, host_id, source_id, created_at, last_updated, \
    revision, worker
    """
  private static let placeholders = Array(repeating: "?", count: 13).joined(separator: ", ")

  /// Matches the row as it was read, not a later row with the same name.
  private static let isUnchanged = "team_id = ? AND name = ? AND created_at = ? AND revision = ?"

  private static func identity(_ record: SnapshotRecord) -> [SQLValue] {
    [.uuid(record.teamID.uuid), .text(record.name.value), .timestamp(record.createdAt), .integer(record.revision)]
  }

  private static func parameters(_ record: SnapshotRecord, by worker: WorkerID) -> [SQLValue] {
    [
      .uuid(record.teamID.uuid), .text(record.name.value), .text(record.status.rawValue), .integer(record.vcpus),
      .integer(record.memoryMiB), .integer(record.diskSizeMiB), .integer(record.sizeBytes), .uuid(record.hostID.uuid),
      .optional(record.sourceID?.uuid), .timestamp(record.createdAt), .timestamp(record.lastUpdated),
      .integer(record.revision),
      worker.value,
    ]
  }

  private static func record(_ row: SQLRow) throws -> SnapshotRecord {
    guard let status = SnapshotRecord.Status(rawValue: try row.text(2)) else {
      throw PersistenceError.corruptRow("snapshot status")
    }
    return SnapshotRecord(
      teamID: TeamID(try row.uuid(0)), name: try SafeName(row.text(1)), status: status, vcpus: try row.integer(3),
      memoryMiB: try row.integer(4), diskSizeMiB: try row.integer(5), sizeBytes: Int64(try row.integer(6)),
      hostID: HostID(try row.uuid(7)), sourceID: try row.optionalUUID(8).map { SandboxID($0) },
      createdAt: try row.date(9),
      lastUpdated: try row.date(10), revision: try row.integer(11), worker: try WorkerID(row, 12))
  }
}
