import Foundation
import Persistence
import Testing

@Suite struct MigratorTests {
  @Test("migrations are numbered from one without gaps", arguments: SQLDialect.allCases)
  func numbering(dialect: SQLDialect) {
    #expect(Migration.all(for: dialect).map(\.number) == Array(1...Migration.all(for: dialect).count))
  }

  @Test("migrating up twice changes nothing the second time")
  func idempotent() async throws {
    try await withDatabase { database async throws -> Void in
      #expect(try await Migrator(database: database).migrateUp() == [])
    }
  }

  @Test("two servers that start at once apply every migration once")
  func concurrentStart() async throws {
    let directory = FileManager.default.temporaryDirectory.appendingPathComponent("martlet-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: directory) }
    let path = directory.appendingPathComponent("martlet.db").path
    let first = try SQLiteDatabase(path: path)
    let second = try SQLiteDatabase(path: path)
    async let one = Migrator(database: first).migrateUp()
    async let two = Migrator(database: second).migrateUp()
    let applied = try await one + two
    #expect(applied.sorted() == Migration.all(for: .sqlite).map(\.number))
    try await first.close()
    try await second.close()
  }

  @Test("down takes everything away, and up brings it back")
  func downAndUp() async throws {
    try await withDatabase { database async throws -> Void in
      let migrator = Migrator(database: database)
      try await migrator.migrateDown(to: 0)
      #expect(try await migrator.currentNumber() == 0)
      let tables = try await database.query { try $0.rows("SELECT name FROM sqlite_master WHERE type = 'table'").map { try $0.text(0) } }
      #expect(Set(tables).subtracting(["schema_migrations", "sqlite_sequence"]).isEmpty)
      #expect(try await migrator.migrateUp() == Migration.all(for: database.dialect).map(\.number))
    }
  }

  @Test("a database of a newer program is refused")
  func newer() async throws {
    try await withDatabase { database async throws -> Void in
      try await database.write { connection in
        _ = try connection.execute("INSERT INTO schema_migrations VALUES (?, ?, ?)", [.integer(99), .text("future"), .integer(0)])
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
