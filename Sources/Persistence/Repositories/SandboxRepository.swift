package import Foundation
package import Model

/// Sandboxes in the database. Tenants' reads name their team in the query itself (AUTH-5); the monitor's go over all
/// teams.
package struct SandboxRepository: Sendable {
  let database: any Database

  package init(database: any Database) {
    self.database = database
  }

  /// Adds the row and what the audit log says about it, in one transaction.
  package func insert(_ record: SandboxRecord, audit: AuditRecord) async throws {
    try await insert([(record, audit)])
  }

  /// Adds all of the rows or none.
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

  /// Whatever its team; for the monitor.
  package func sandbox(_ id: SandboxID) async throws -> SandboxRecord? {
    try await database.lookUp(Self.lookUp, [.uuid(id.uuid)]).map(Self.record)
  }

  /// Newest first.
  package func list(_ filter: SandboxFilter, team: TeamID) async throws -> [SandboxRecord] {
    let (sql, parameters) = Self.listStatement(filter, team: team, database.dialect)
    return try await database.query { try $0.rows(sql, parameters).map(Self.record) }
  }

  /// Every sandbox of all teams on one host (nil: on none) that is neither `stopped` nor `error`; for the monitor.
  package func alive(on host: HostID?) async throws -> [SandboxRecord] {
    let placed = host.map { _ in "host_id = ?" } ?? "host_id IS NULL"
    let parameters = host.map { [SQLValue.uuid($0.uuid)] } ?? []
    return try await database.query { connection in
      try connection.rows(
        "SELECT \(Self.columns) FROM sandboxes WHERE \(placed) AND status NOT IN ('stopped', 'error')", parameters
      ).map(Self.record)
    }
  }

  /// Every sandbox of all teams that is neither `stopped` nor `error`.
  package func alive() async throws -> [SandboxRecord] {
    try await database.query { connection in
      try connection.rows("SELECT \(Self.columns) FROM sandboxes WHERE status NOT IN ('stopped', 'error')").map(
        Self.record)
    }
  }

  /// Sandboxes that this program has begun to create, pause or resume, as far as the database knows.
  package func begunHere() async throws -> [SandboxRecord] {
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

  /// Sets what the sandbox really got (snapshot-locked values) where that differs from what was asked for.
  package func setShape(_ id: SandboxID, vcpus: Int, memoryMiB: Int, diskSizeMiB: Int) async throws {
    try await database.write { connection in
      _ = try connection.execute(
        "UPDATE sandboxes SET vcpus = ?, memory_mb = ?, disk_size_mb = ? WHERE id = ?",
        [.integer(vcpus), .integer(memoryMiB), .integer(diskSizeMiB), .uuid(id.uuid)])
    }
  }

  /// How many sandboxes of all teams are in each state that is not over.
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

  /// Moves `last_active_at` forward, never back, for many sandboxes, some in one transaction.
  package func touch(_ activity: [SandboxID: Date]) async throws {
    // In one order everywhere, so that two servers do not wait for each other.
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
  /// Pieces that are changed in one transaction each: a statement for every element, and an answer in time.
  var batches: [ArraySlice<Element>] {
    stride(from: 0, to: count, by: 500).map { self[$0..<Swift.min($0 + 500, count)] }
  }
}
