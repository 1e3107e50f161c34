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

  /// - Throws: `not_found` if the data directory has no database; `email_taken`, `invalid_request`.
  func create(_ new: NewUser) async throws -> UserResource {
    let path = dataDirectory.appending("martlet.db").string
    guard try choice.isShared || FileStatus.of(path, followingLinks: true) != nil else {
      throw MartletError(
        .notFound, "\(dataDirectory) has no database; run `martlet up` once, or name the directory with --data-dir")
    }
    let logger = Logger(label: "martlet") { LineLogHandler.standardError(label: $0) }
    let database = try await DatabaseFactory(choice: choice, dataDirectory: dataDirectory, logger: logger).open()
    do {
      let user = try await create(new, in: database, logger)
      try await database.close()
      return user
    } catch {
      try? await database.close()
      throw error
    }
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
