import CommandLine
import Logging
import Model
import Persistence

/// Whether the database that is set up answers.
enum DatabaseCheck {
  private static let name = "database"

  static func run(_ choice: DatabaseChoice) async -> DoctorCheck {
    switch choice {
    case .embedded: DoctorCheck(name, .ok, "SQLite in the data directory; DATABASE_URL names a PostgreSQL instead")
    case .postgres(let url, let password): await check(url: url, password: password)
    }
  }

  private static func check(url: String, password: String?) async -> DoctorCheck {
    do {
      var configuration = try PostgresConfiguration(url: url, password: password)
      configuration.patience = .seconds(2)
      configuration.maximumConnections = 1
      let database = PostgresDatabase(configuration, logger: Logger(label: "doctor") { _ in SwiftLogNoOpLogHandler() })
      let answer: Result<String, any Error>
      do {
        answer = .success(try await database.serverVersion())
      } catch {
        answer = .failure(error)
      }
      try await database.close()
      return DoctorCheck(name, .ok, "PostgreSQL \(try answer.get()) answers")
    } catch {
      let finding = (DatabaseFactory.explained(error) as? MartletError)?.message ?? "PostgreSQL does not answer"
      return DoctorCheck(name, .missing, finding, remedy: "start the server, or correct DATABASE_URL and PGPASSWORD")
    }
  }
}
