import Foundation

/// Applies or reverts schema migrations.
///
/// Each migration runs in its own transaction, together with its entry in `schema_migrations` and under the database's
/// migration lock (`Database.migrate`). If two servers start at once, the second waits and then finds the migrations
/// applied. A crash never leaves a partial migration.
package struct Migrator: Sendable {
  private let database: any Database
  private let migrations: [Migration]

  package init(database: any Database) {
    self.init(database: database, migrations: Migration.all(for: database.dialect))
  }

  package init(database: any Database, migrations: [Migration]) {
    self.database = database
    self.migrations = migrations
  }

  /// Applies all pending migrations.
  /// - Returns: the numbers of the migrations that this call applied.
  /// - Throws: `PersistenceError.incompatibleSchema` when the database was migrated by a newer program.
  @discardableResult
  package func migrateUp() async throws -> [Int] {
    var applied: [Int] = []
    for migration in migrations {
      let known = migrations
      let didRun = try await database.migrate { connection in
        let current = try Self.prepare(connection, known: known)
        guard migration.number > current else { return false }
        try connection.executeScript(migration.up)
        try connection.execute(
          "INSERT INTO schema_migrations (number, name, applied_at) VALUES (?, ?, ?)",
          [.integer(migration.number), .text(migration.name), .timestamp(Date())])
        return true
      }
      if didRun { applied.append(migration.number) }
    }
    return applied
  }

  /// Reverts migrations, newest first, until `number` is the newest applied one.
  package func migrateDown(to number: Int) async throws {
    for migration in migrations.reversed() where migration.number > number {
      let known = migrations
      try await database.migrate { connection in
        guard try Self.prepare(connection, known: known) == migration.number else { return }
        try connection.executeScript(migration.down)
        try connection.execute("DELETE FROM schema_migrations WHERE number = ?", [.integer(migration.number)])
      }
    }
  }

  /// The number of the newest applied migration; 0 for an empty database.
  package func currentNumber() async throws -> Int {
    let known = migrations
    return try await database.migrate { try Self.prepare($0, known: known) }
  }

  private static func prepare(_ connection: any SQLConnection, known: [Migration]) throws -> Int {
    try connection.executeScript(
      """
      CREATE TABLE IF NOT EXISTS schema_migrations \
      (number BIGINT PRIMARY KEY NOT NULL, name TEXT NOT NULL, applied_at BIGINT NOT NULL)
      """
    )
    let rows = try connection.rows("SELECT number, name FROM schema_migrations ORDER BY number")
    for (index, row) in rows.enumerated() {
      let number = try row.integer(0)
      let name = try row.text(1)
      guard index < known.count, known[index].number == number, known[index].name == name else {
        throw PersistenceError.incompatibleSchema(
          "migration \(number) (\(name)) is applied but unknown to this version; "
            + "start the version that migrated the database"
        )
      }
    }
    return rows.count
  }
}
