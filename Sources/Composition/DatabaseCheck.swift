import CommandLine
import Logging
import Model
import Persistence

/// Checks whether the configured database responds.
enum DatabaseCheck {
  private static let name = "database"

  static func run(_ choice: DatabaseChoice) async -> DoctorCheck {
    switch choice {
    case .embedded: DoctorCheck(name, .ok, "SQLite in the data directory; set DATABASE_URL to use PostgreSQL")
    case .postgres(let url, let password): await check(url: url, password: password)
    }
  }

  private static func check(url: String, password: String?) async -> DoctorCheck {
    do {
      var configuration = try PostgresConfiguration(url: url, password: password)
      configuration.patience = .seconds(2)
      configuration.maximumConnections = 1
      let database = PostgresDatabase(configuration, logger: Logger(label: "doctor") { _ in SwiftLogNoOpLogHandler() })
      let version: Result<String, any Error>
      do {
        version = .success(try await database.serverVersion())
      } catch {
        version = .failure(error)
      }
      try await database.close()
      return DoctorCheck(name, .ok, "PostgreSQL \(try version.get()) responds")
    } catch {
      let finding = (DatabaseFactory.explained(error) as? MartletError)?.message ?? "PostgreSQL does not version"
      return DoctorCheck(name, .missing, finding, remedy: "start the server, or correct DATABASE_URL and PGPASSWORD")
    }
  }
}
