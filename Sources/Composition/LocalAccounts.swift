import APIClient
import CommandLine
import ControlPlane
import LinuxSystem
import Logging
import Model
import Persistence
import SystemPackage
import Telemetry

/// Creates accounts directly in the database of this machine's server, for the case that no administrator can log in.
struct LocalAccounts {
  let dataDirectory: FilePath
  let choice: DatabaseChoice

  /// - Throws: `not_found` if the data directory has no database; `wrong_installation` if the database is not the one
  ///   that the data directory belongs to; `email_taken`, `invalid_request`.
  func create(_ new: NewUser) async throws -> UserResource {
    let path = dataDirectory.appending("martlet.db").string
    guard try choice.isShared || FileStatus.of(path, followingLinks: true) != nil else {
      throw MartletError(
        .notFound, "\(dataDirectory) has no database; run `martlet up` once, or name the directory with --data-dir")
    }
    let logger = Logger(label: "martlet") { LineLogHandler.standardError(label: $0) }
    let factory = DatabaseFactory(choice: choice, dataDirectory: dataDirectory, logger: logger)
    try await refuseForeign(factory)
    let database = try await factory.open()
    do {
      let user = try await create(new, in: database, logger)
      try await database.close()
      return user
    } catch {
      try? await database.close()
      throw error
    }
  }

  /// An account in a wrong or empty database would help no administrator, and would make an empty one a foreign one.
  private func refuseForeign(_ factory: DatabaseFactory) async throws {
    guard let own = try HostIdentity.load(from: dataDirectory).installation else { return }
    let database = try factory.make()
    let condition: InstallationRepository.Condition
    do {
      condition = try await InstallationRepository(database: database).condition()
    } catch {
      try? await database.close()
      throw DatabaseFactory.explained(error)
    }
    try await database.close()
    guard condition != .named(own) else { return }
    throw MartletError(
      .wrongInstallation,
      "the database is not the one of installation \(own), to which \(dataDirectory) belongs; nothing was changed. Give "
        + "the right database (DATABASE_URL)")
  }

  private func create(_ new: NewUser, in database: any Database, _ logger: Logger) async throws -> UserResource {
    let control = ControlPlane(database: database, hosts: FixedHosts([]), dependencies: Dependencies(logger: logger))
    let (profile, team) = try await control.admin.createLocalUser(
      email: new.email, password: new.password, name: new.name, isAdmin: new.isAdmin)
    return UserResource(
      userID: profile.userID.wire, email: profile.email, name: profile.name, isAdmin: profile.isAdmin, teamID: team.wire
    )
  }
}
