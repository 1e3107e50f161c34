import Foundation
import Logging
package import Persistence

/// A database that one test has for itself; programs that share it connect once each.
package struct TestDatabase: Sendable {
  package let dialect: SQLDialect
  /// Of the file, or of the database on the server.
  private let name: String
  private let server: PrivatePostgres?

  /// A database on the shared server with all migrations, that others are copied from: to migrate takes longer than
  /// most tests.
  private static let migrated = Task {
    let store = try await make(.postgresql)
    let database = try store.connect()
    try await Migrator(database: database).migrateUp()
    try await database.close()
    return store.name
  }

  /// Makes a database; SQLite's in memory, where no test waits for a disk.
  /// - Parameters:
  ///   - server: one that the test may harm; nil is the shared one.
  ///   - isMigrated: whether one on the shared server has all migrations; any other is empty.
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

  /// Connects like a program of its own.
  package func connect(_ change: (inout PostgresConfiguration) -> Void = { _ in }) throws -> any Database {
    guard let server else { return try SQLiteDatabase(path: "\(name)/martlet.db") }
    var configuration = try PostgresConfiguration(url: server.url(database: name))
    // A failing test should say so soon, and a busy machine is no failure.
    configuration.patience = .seconds(20)
    change(&configuration)
    return PostgresDatabase(configuration, logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
  }

  package func remove() async throws {
    guard let server else { return try FileManager.default.removeItem(atPath: name) }
    try await server.dropDatabase(name)
  }
}

/// Runs `body` with a migrated database of its own, removed afterwards.
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
