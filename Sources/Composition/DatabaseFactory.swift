import CommandLine
import Logging
import Model
import Persistence
import SystemPackage

/// Opens the configured database.
struct DatabaseFactory {
  let choice: DatabaseChoice
  let dataDirectory: FilePath
  let logger: Logger

  /// - Returns: the database, migrated to the current schema.
  /// - Throws: `database_unavailable` with the database server's message, which the operator may see.
  func open() async throws -> any Database {
    let database = try make()
    do {
      try await Migrator(database: database).migrateUp()
    } catch {
      try? await database.close()
      throw Self.explained(error)
    }
    return database
  }

  /// - Returns: the database as it is.
  func make() throws -> any Database {
    switch choice {
    case .embedded:
      return try SQLiteDatabase(path: dataDirectory.appending("martlet.db").string)
    case .postgres(let url, let password):
      do {
        return PostgresDatabase(try PostgresConfiguration(url: url, password: password), logger: logger)
      } catch {
        throw Self.explained(error)
      }
    }
  }

  static func explained(_ error: any Error) -> any Error {
    guard let error = error as? PersistenceError else { return error }
    switch error {
    case .unavailable(let text):
      return MartletError(
        .databaseUnavailable, "PostgreSQL does not respond (\(text)); check DATABASE_URL and that the server runs",
        cause: error)
    case .failed(let text), .incompatibleSchema(let text):
      return MartletError(.databaseUnavailable, "the database cannot be used: \(text)", cause: error)
    case .duplicate, .constraint, .corruptRow, .outcomeUnknown:
      return MartletError.wrapping(error)
    }
  }
}
