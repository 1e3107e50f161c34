package import Foundation
package import Model

/// The audit log: rows are appended, read page by page, never changed, and deleted when they are old.
package struct AuditRepository: Sendable {
  private let database: any Database

  package init(database: any Database) {
    self.database = database
  }

  /// Adds all rows or none. Inserts many rows per statement, as one round trip per row would take too long.
  package func append(_ records: [AuditRecord]) async throws {
    guard !records.isEmpty else { return }
    try await database.write { connection in
      var remaining = records[...]
      while let size = Self.rowsPerStatement.first(where: { $0 <= remaining.count }) {
        try Self.insert(remaining.prefix(size), connection)
        remaining = remaining.dropFirst(size)
      }
    }
  }

  /// A few statement sizes, so that few statements are prepared. The largest has 4,500 parameters; SQLite allows 32,766
  /// and PostgreSQL 65,535.
  private static let rowsPerStatement = [500, 100, 20, 5, 1]

  /// Newest first.
  package func list(team: TeamID, _ filter: AuditFilter) async throws -> [(number: Int, record: AuditRecord)] {
    let (conditions, parameters) = Self.conditions(team, filter)
    return try await database.read { connection in
      try connection.limitStatements(to: Self.listTimeout)
      return try connection.rows(
        "SELECT id, \(Self.columns) FROM audit_logs WHERE \(conditions) ORDER BY id DESC LIMIT ?",
        parameters + [.integer(filter.limit)]
      ).map { (try $0.integer(0), try Self.record($0)) }
    }
  }

  /// Time limit for a query whose filter matches few rows: it reads all of the team's rows.
  private static let listTimeout: Duration = .seconds(5)

  /// Deletes a batch of the oldest rows from before `time`. Row ids grow with time, so the rows with the lowest ids are
  /// the oldest.
  /// - Returns: the number of deleted rows; 0 when none is left.
  package func delete(before time: Date) async throws -> Int {
    try await database.write { connection in
      try connection.execute(
        """
        DELETE FROM audit_logs WHERE created_at < ? \
        AND id IN (SELECT id FROM audit_logs ORDER BY id LIMIT \(Self.retentionBatch))
        """,
        [.timestamp(time)])
    }
  }

  /// The number of rows that one transaction deletes.
  package static let retentionBatch = 500

  /// All of the team's rows, newest first.
  package func list(team: TeamID, limit: Int, before: Int? = nil) async throws -> [(number: Int, record: AuditRecord)] {
    try await list(team: team, AuditFilter(limit: limit, before: before))
  }

  private static func conditions(_ team: TeamID, _ filter: AuditFilter) -> (String, [SQLValue]) {
    var conditions = ["team_id = ?", "id < ?"]
    var parameters: [SQLValue] = [.uuid(team.uuid), .integer(filter.before ?? .max)]
    let texts = [
      ("action", filter.action), ("actor_id", filter.actorID), ("target_type", filter.targetType),
      ("target_id", filter.targetID),
      ("outcome", filter.outcome),
    ]
    for case (let column, let text?) in texts {
      conditions.append("\(column) = ?")
      parameters.append(.text(text))
    }
    for case (let comparison, let time?) in [("created_at >= ?", filter.since), ("created_at < ?", filter.until)] {
      conditions.append(comparison)
      parameters.append(.timestamp(time))
    }
    return (conditions.joined(separator: " AND "), parameters)
  }

  static func insert(_ record: AuditRecord, _ connection: any SQLConnection) throws {
    try insert([record], connection)
  }

  private static func insert(_ records: ArraySlice<AuditRecord>, _ connection: any SQLConnection) throws {
    let rows = Array(repeating: "(?, ?, ?, ?, ?, ?, ?, ?, ?)", count: records.count).joined(separator: ", ")
    try connection.execute("INSERT INTO audit_logs (\(columns)) VALUES \(rows)", records.flatMap(parameters))
  }

  private static func parameters(_ record: AuditRecord) -> [SQLValue] {
    [
      .uuid(record.teamID.uuid), .text(record.actorType), .text(record.actorID), .text(record.action),
      .text(record.targetType),
      .text(record.targetID), .text(record.outcome), .optional(record.source), .timestamp(record.createdAt),
    ]
  }

  private static let columns =
    "team_id, actor_type, actor_id, action, target_type, target_id, outcome, source, created_at"

  private static func record(_ row: SQLRow) throws -> AuditRecord {
    AuditRecord(
      teamID: TeamID(try row.uuid(1)), actorType: try row.text(2), actorID: try row.text(3), action: try row.text(4),
      targetType: try row.text(5), targetID: try row.text(6), outcome: try row.text(7), source: try row.optionalText(8),
      createdAt: try row.date(9))
  }
}
