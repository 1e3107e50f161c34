import CommandLine
import Logging
import Model
import Persistence
import SystemPackage

/// Opens the database that the options name.
struct DatabaseFactory {
  let choice: DatabaseChoice
  let dataDirectory: FilePath
  let logger: Logger

  /// - Returns: the database, migrated.
  /// - Throws: `database_unavailable` with what the server said; whoever starts Martlet may know that.
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

  private func make() throws -> any Database {
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
        .databaseUnavailable, "PostgreSQL does not answer (\(text)); check DATABASE_URL, and that the server runs",
        cause: error)
    case .failed(let text), .incompatibleSchema(let text):
      return MartletError(.databaseUnavailable, "the database cannot be used: \(text)", cause: error)
    case .duplicate, .constraint, .corruptRow, .outcomeUnknown:
      return MartletError.wrapping(error)
    }
  }
}
