import Foundation
import Logging
package import Persistence

/// A database of one test, to which several simulated programs can connect.
package struct TestDatabase: Sendable {
  package let dialect: SQLDialect
  /// The directory of the SQLite file, or the name of the database on the server.
  private let name: String
  private let server: PrivatePostgres?

  /// The name of a migrated database on the shared server, from which others are copied: migrating takes longer than
  /// most tests.
  private static let migrated = Task {
    let store = try await make(.postgresql)
    let database = try store.connect()
    try await Migrator(database: database).migrateUp()
    try await database.close()
    return store.name
  }

  /// Creates a database. SQLite files are in memory (/dev/shm), so that tests do not wait for a disk.
  /// - Parameters:
  ///   - server: a server that the test may stop; nil selects the shared one.
  ///   - isMigrated: whether a database on the shared server has all migrations; any other database is empty.
  package static func make(
    _ dialect: SQLDialect, on server: PrivatePostgres? = nil, isMigrated: Bool = false
  ) async throws -> TestDatabase {
    switch dialect {
    case .sqlite:
      let directory = URL(filePath: "/dev/shm", directoryHint: .isDirectory).appendingPathComponent(
        "martlet-\(UUID().uuidString)")
      try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
      return TestDatabase(dialect: dialect, name: directory.path, server: nil)
    case .postgresql:
      if let server { return TestDatabase(dialect: dialect, name: try await server.makeDatabase(), server: server) }
      let template = isMigrated ? try await migrated.value : nil
      let server = try await PrivatePostgres.shared.value
      return TestDatabase(dialect: dialect, name: try await server.makeDatabase(from: template), server: server)
    }
  }

  /// Connects as a separate program would.
  package func connect(_ change: (inout PostgresConfiguration) -> Void = { _ in }) throws -> any Database {
    guard let server else { return try SQLiteDatabase(path: "\(name)/martlet.db") }
    var configuration = try PostgresConfiguration(url: server.url(database: name))
    // Short enough for a failing test, long enough for a busy machine.
    configuration.patience = .seconds(20)
    change(&configuration)
    return PostgresDatabase(configuration, logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
  }

  /// A copy of the database as it is now, as a backup and its restore make it; of SQLite only while nothing writes.
  package func copy() async throws -> TestDatabase {
    guard let server else {
      let path = "\(name)-\(UUID().uuidString.prefix(8))"
      try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
      for file in ["martlet.db", "martlet.db-wal"] where FileManager.default.fileExists(atPath: "\(name)/\(file)") {
        try FileManager.default.copyItem(atPath: "\(name)/\(file)", toPath: "\(path)/\(file)")
      }
      return TestDatabase(dialect: dialect, name: path, server: nil)
    }
    let copy = try await server.makeDatabase()
    try await server.dump(name, into: copy)
    return TestDatabase(dialect: dialect, name: copy, server: server)
  }

  package func remove() async throws {
    guard let server else { return try FileManager.default.removeItem(atPath: name) }
    try await server.dropDatabase(name)
  }
}

/// Runs `body` with a new migrated database, and removes it afterwards.
package func withTestDatabase<Value>(
  _ dialect: SQLDialect, on server: PrivatePostgres? = nil, _ body: (any Database, TestDatabase) async throws -> Value
) async throws -> Value {
  let store = try await TestDatabase.make(dialect, on: server, isMigrated: true)
  let database = try store.connect()
  let outcome: Result<Value, any Error>
  do {
    try await Migrator(database: database).migrateUp()
    outcome = .success(try await body(database, store))
  } catch {
    outcome = .failure(error)
  }
  try await database.close()
  try await store.remove()
  return try outcome.get()
}
