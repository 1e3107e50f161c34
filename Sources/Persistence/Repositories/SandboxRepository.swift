package import Foundation
package import Model

/// Stores sandboxes. Every read for a tenant contains the team in its query; reads for the monitor cover all teams.
package struct SandboxRepository: Sendable {
  let database: any Database

  package init(database: any Database) {
    self.database = database
  }

  /// Inserts the row and its audit record in one transaction.
  package func insert(_ record: SandboxRecord, audit: AuditRecord) async throws {
    try await insert([(record, audit)])
  }

  /// Inserts all rows or none.
  package func insert(_ entries: [(record: SandboxRecord, audit: AuditRecord)]) async throws {
    try await database.write { connection in
      for (record, audit) in entries {
        try connection.execute(
          "INSERT INTO sandboxes (\(Self.columns)) VALUES (\(Self.placeholders))",
          try Self.parameters(record, by: database.worker))
        try AuditRepository.insert(audit, connection)
      }
    }
  }

  /// - Parameter version: see `Database.find`.
  package func sandbox(
    _ id: SandboxID, team: TeamID, notBefore version: DatabaseVersion? = nil
  ) async throws -> SandboxRecord? {
    try await database.find(Self.lookUpInTeam, [.uuid(id.uuid), .uuid(team.uuid)], notBefore: version).value.map(
      Self.record)
  }

  /// The sandbox, regardless of its team; for the monitor.
  package func sandbox(_ id: SandboxID) async throws -> SandboxRecord? {
    try await database.lookUp(Self.lookUp, [.uuid(id.uuid)]).map(Self.record)
  }

  /// Newest first.
  package func list(_ filter: SandboxFilter, team: TeamID) async throws -> [SandboxRecord] {
    let (sql, parameters) = Self.listStatement(filter, team: team, database.dialect)
    return try await database.query { try $0.rows(sql, parameters).map(Self.record) }
  }

  /// All sandboxes of all teams on one host (nil: without a host) that are neither `stopped` nor `error`; for the
  /// monitor.
  package func alive(on host: HostID?) async throws -> [SandboxRecord] {
    let placed = host.map { _ in "host_id = ?" } ?? "host_id IS NULL"
    let parameters = host.map { [SQLValue.uuid($0.uuid)] } ?? []
    return try await database.query { connection in
      try connection.rows(
        "SELECT \(Self.columns) FROM sandboxes WHERE \(placed) AND status NOT IN ('stopped', 'error')", parameters
      ).map(Self.record)
    }
  }

  /// All sandboxes of all teams that are neither `stopped` nor `error`.
  package func alive() async throws -> [SandboxRecord] {
    try await database.query { connection in
      try connection.rows("SELECT \(Self.columns) FROM sandboxes WHERE status NOT IN ('stopped', 'error')").map(
        Self.record)
    }
  }

  /// Sandboxes with a create, pause or resume that this worker began and that is not finished in the database.
  package func unfinishedOperationsOfThisWorker() async throws -> [SandboxRecord] {
    let worker = database.worker
    return try await database.query { connection in
      try connection.rows(
        """
        SELECT \(Self.columns) FROM sandboxes WHERE status NOT IN ('stopped', 'error') \
        AND status IN ('pending', 'starting', 'pausing', 'resuming') AND worker = ?
        """, [worker.value]
      ).map(Self.record)
    }
  }

  /// Stores the actual shape of a sandbox where it differs from the requested one, as a snapshot fixes the shape.
  package func setShape(_ id: SandboxID, vcpus: Int, memoryMiB: Int, diskSizeMiB: Int) async throws {
    try await database.write { connection in
      _ = try connection.execute(
        "UPDATE sandboxes SET vcpus = ?, memory_mb = ?, disk_size_mb = ? WHERE id = ?",
        [.integer(vcpus), .integer(memoryMiB), .integer(diskSizeMiB), .uuid(id.uuid)])
    }
  }

  /// The number of sandboxes of all teams per state, without finished ones.
  package func countsByStatus() async throws -> [SandboxStatus: Int] {
    let rows = try await database.query { connection in
      try connection.rows(
        "SELECT status, COUNT(*) FROM sandboxes WHERE status NOT IN ('stopped', 'error') GROUP BY status"
      ).map { (SandboxStatus(rawValue: try $0.text(0)), try $0.integer(1)) }
    }
    return rows.reduce(into: [:]) { counts, row in
      if let status = row.0 { counts[status] = row.1 }
    }
  }

  /// Moves `last_active_at` forward, never back, for many sandboxes, in batches of one transaction each.
  package func touch(_ activity: [SandboxID: Date]) async throws {
    // Updates in one fixed order, so that two servers do not deadlock.
    for batch in activity.sorted(by: { $0.key.wire < $1.key.wire }).batches {
      try await database.write { connection in
        for (id, time) in batch {
          try connection.execute(
            "UPDATE sandboxes SET last_active_at = ? WHERE id = ? AND (last_active_at IS NULL OR last_active_at < ?)",
            [.timestamp(time), .uuid(id.uuid), .timestamp(time)])
        }
      }
    }
  }
}

extension Array {
  /// Slices of at most 500 elements, each changed in one transaction with one statement per element.
  var batches: [ArraySlice<Element>] {
    stride(from: 0, to: count, by: 500).map { self[$0..<Swift.min($0 + 500, count)] }
  }
}
