package import Model

/// The id of the installation that the database belongs to, and what the database knows about a host.
package struct InstallationRepository: Sendable {
  private let database: any Database

  package init(database: any Database) {
    self.database = database
  }

  /// - Throws: `PersistenceError`; the table exists once the database is migrated.
  package func id() async throws -> InstallationID {
    guard let row = try await database.query({ try $0.row("SELECT id FROM installation WHERE only_row = 1", []) })
    else { throw PersistenceError.corruptRow("the database has no installation id") }
    return InstallationID(try row.uuid(0))
  }

  /// What a database is before anything is changed in it.
  package enum Condition: Sendable, Equatable {
    /// Without any table of Martlet.
    case empty
    /// Migrated by a program from before installation ids.
    case unnamed
    case named(InstallationID)
  }

  /// Looks without changing anything.
  package func condition() async throws -> Condition {
    try await database.query { connection in
      let tables = try Self.tables(["installation", "schema_migrations"], connection)
      guard tables.contains("installation") else { return tables.isEmpty ? .empty : .unnamed }
      guard let row = try connection.row("SELECT id FROM installation WHERE only_row = 1", []) else { return .unnamed }
      return .named(InstallationID(try row.uuid(0)))
    }
  }

  /// Whether a row names this host, or one of the sandboxes that it holds. The database is migrated.
  package func knows(_ host: HostID, holding sandboxes: [SandboxID]) async throws -> Bool {
    try await database.read { connection in
      for table in ["hosts WHERE id", "sandboxes WHERE host_id", "snapshots WHERE host_id"]
      where try connection.row("SELECT 1 FROM \(table) = ? LIMIT 1", [.uuid(host.uuid)]) != nil { return true }
      for id in sandboxes
      where try connection.row("SELECT 1 FROM sandboxes WHERE id = ?", [.uuid(id.uuid)]) != nil { return true }
      return false
    }
  }

  private static func tables(_ names: [String], _ connection: any SQLConnection) throws -> Set<String> {
    let query =
      switch connection.dialect {
      case .sqlite: "SELECT name FROM sqlite_master WHERE type = 'table' AND name = ?"
      case .postgresql: "SELECT CAST(? AS text) WHERE to_regclass(CAST(? AS text)) IS NOT NULL"
      }
    return try names.reduce(into: []) { found, name in
      let parameters = Array(repeating: SQLValue.text(name), count: connection.dialect == .sqlite ? 1 : 2)
      if try connection.row(query, parameters) != nil { found.insert(name) }
    }
  }
}
