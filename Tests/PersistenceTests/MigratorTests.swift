import Foundation
import Persistence
import TestSupport
import Testing

@Suite struct MigratorTests {
  @Test("migrations are numbered from one without gaps", arguments: SQLDialect.allCases)
  func numbering(dialect: SQLDialect) {
    #expect(Migration.all(for: dialect).map(\.number) == Array(1...Migration.all(for: dialect).count))
  }

  @Test("migrating up twice changes nothing the second time", arguments: SQLDialect.allCases)
  func idempotent(dialect: SQLDialect) async throws {
    try await withDatabase(dialect) { database async throws -> Void in
      #expect(try await Migrator(database: database).migrateUp() == [])
    }
  }

  @Test("two servers that start at once apply every migration once", arguments: SQLDialect.allCases)
  func concurrentStart(dialect: SQLDialect) async throws {
    let store = try await TestDatabase.make(dialect)
    let first = try store.connect()
    let second = try store.connect()
    async let one = Migrator(database: first).migrateUp()
    async let two = Migrator(database: second).migrateUp()
    let applied = try await one + two
    #expect(applied.sorted() == Migration.all(for: dialect).map(\.number))
    try await first.close()
    try await second.close()
    try await store.remove()
  }

  @Test("migrating down removes all tables, and migrating up restores them", arguments: SQLDialect.allCases)
  func downAndUp(dialect: SQLDialect) async throws {
    try await withDatabase(dialect) { database async throws -> Void in
      let before = try await SchemaColumn.all(of: database)
      let migrator = Migrator(database: database)
      try await migrator.migrateDown(to: 0)
      #expect(try await migrator.currentNumber() == 0)
      #expect(try await SchemaColumn.all(of: database).isEmpty)
      #expect(try await migrator.migrateUp() == Migration.all(for: dialect).map(\.number))
      #expect(try await SchemaColumn.all(of: database) == before)
    }
  }

  @Test("every migration can be reverted alone", arguments: SQLDialect.allCases)
  func stepByStep(dialect: SQLDialect) async throws {
    try await withDatabase(dialect) { database async throws -> Void in
      let all = Migration.all(for: dialect)
      for migration in all.reversed() {
        let migrator = Migrator(database: database, migrations: Array(all.prefix(migration.number)))
        let before = try await SchemaColumn.all(of: database)
        try await migrator.migrateDown(to: migration.number - 1)
        #expect(try await migrator.migrateUp() == [migration.number])
        #expect(try await SchemaColumn.all(of: database) == before)
        try await migrator.migrateDown(to: migration.number - 1)
      }
    }
  }

  @Test("both dialects have the same migrations, tables, columns and mandatory columns")
  func dialectsMatch() async throws {
    #expect(Migration.all(for: .sqlite).map(\.name) == Migration.all(for: .postgresql).map(\.name))
    let sqlite = try await withDatabase(.sqlite) { try await SchemaColumn.all(of: $0) }
    let postgres = try await withDatabase(.postgresql) { try await SchemaColumn.all(of: $0) }
    #expect(sqlite.map(\.shape) == postgres.map(\.shape))
  }

  @Test("ids are UUID columns in PostgreSQL, except in the audit log, whose ids are of any kind")
  func identifiers() async throws {
    let columns = try await withDatabase(.postgresql) { try await SchemaColumn.all(of: $0) }
    let identifiers = columns.filter { $0.column == "id" || $0.column.hasSuffix("_id") }
    #expect(identifiers.count >= 10)
    for column in identifiers where column.type != "uuid" {
      #expect(column.table == "audit_logs")
      #expect(["id", "actor_id", "target_id"].contains(column.column))
    }
    for column in columns where column.column.hasSuffix("_at") {
      #expect(column.type == "timestamp with time zone", "\(column)")
    }
  }

  @Test("a database that was migrated by a newer program is refused", arguments: SQLDialect.allCases)
  func newer(dialect: SQLDialect) async throws {
    try await withDatabase(dialect) { database async throws -> Void in
      try await database.write { connection in
        _ = try connection.execute(
          "INSERT INTO schema_migrations VALUES (?, ?, ?)", [.integer(99), .text("future"), .timestamp(Date())])
      }
      await #expect(throws: PersistenceError.self) { try await Migrator(database: database).migrateUp() }
    }
  }

  @Test("the database file is readable by its owner only")
  func permissions() async throws {
    let directory = FileManager.default.temporaryDirectory.appendingPathComponent("martlet-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: directory) }
    let path = directory.appendingPathComponent("martlet.db").path
    let database = try SQLiteDatabase(path: path)
    let mode = try FileManager.default.attributesOfItem(atPath: path)[.posixPermissions] as? Int
    #expect(mode == 0o600)
    try await database.close()
  }
}

/// A column's definition, as reported by the database.
struct SchemaColumn: Equatable {
  var table: String
  var column: String
  var type: String
  var isMandatory: Bool

  var shape: String { "\(table).\(column)\(isMandatory ? "" : "?")" }

  /// The columns of all tables, except internal ones.
  static func all(of database: any Database) async throws -> [SchemaColumn] {
    let sql =
      switch database.dialect {
      case .sqlite:
        """
        SELECT t.name, c.name, c.type, c."notnull" FROM sqlite_master AS t JOIN pragma_table_info(t.name) AS c
        WHERE t.type = 'table' AND t.name NOT IN ('schema_migrations', 'sqlite_sequence') ORDER BY t.name, c.name
        """
      case .postgresql:
        """
        SELECT table_name::text, column_name::text, data_type::text, is_nullable = 'NO' FROM information_schema.columns
        WHERE table_schema = 'public' AND table_name <> 'schema_migrations'
        ORDER BY table_name COLLATE "C", column_name COLLATE "C"
        """
      }
    return try await database.query { connection in
      try connection.rows(sql).map { row in
        // SQLite does not report the row id as mandatory.
        let isRowID = try row.text(2) == "INTEGER" && row.text(1) == "id"
        return SchemaColumn(
          table: try row.text(0), column: try row.text(1), type: try row.text(2),
          isMandatory: try row.bool(3) || isRowID)
      }
    }
  }
}
