import CommandLine
import HostAgent
import LinuxSystem
import Logging
import Model
import Persistence
import SystemPackage

/// Brings host and database together before either changes anything, so that a wrong, empty or forgotten database costs
/// nothing: the server does not start then, and says what it found.
struct InstallationCheck {
  let choice: DatabaseChoice
  let dataDirectory: FilePath
  let adopts: Bool
  let logger: Logger

  /// What belongs together.
  struct Result {
    let identity: HostIdentity
    let journal: Journal
    /// Migrated.
    let database: any Database
    let installation: InstallationID
  }

  /// The data directory is locked for this process.
  /// - Throws: `wrong_installation`; nothing was changed then but the schema of a database of an earlier version.
  func run() async throws -> Result {
    var identity = try HostIdentity.load(from: dataDirectory)
    let journal = try openJournal(identity)
    let sandboxes = try await journal.sandboxes().map(\.id)
    let holdings = sandboxes.count + (try await journal.namedSnapshots().count)
    try refuseMissingFile(identity, sandboxes: sandboxes.count, holdings: holdings)
    let database = try DatabaseFactory(choice: choice, dataDirectory: dataDirectory, logger: logger).make()
    do {
      let installation = try await decide(identity, journal, sandboxes, holdings, database)
      if identity.installation != installation {
        identity.installation = installation
        try identity.write(to: dataDirectory)
      }
      return Result(identity: identity, journal: journal, database: database, installation: installation)
    } catch {
      try? await database.close()
      throw DatabaseFactory.explained(error)
    }
  }

  /// - Throws: when a host that has been in use has no journal, or an empty one: everything that it holds would count
  ///   as garbage.
  private func openJournal(_ identity: HostIdentity) throws -> Journal {
    let path = dataDirectory.appending("journal.db")
    let size = try FileStatus.of(path.string, followingLinks: true)?.sizeBytes ?? 0
    if size == 0 {
      let left = ["instances", "snapshots/generations"].flatMap {
        (try? Directories.names(in: dataDirectory.appending($0))) ?? []
      }
      guard left.isEmpty else {
        throw MartletError(
          .wrongInstallation,
          """
          \(path) is missing or empty, and the data directory holds \(left.count) microVMs and snapshots that only the \
          journal knows; nothing was changed. Restore journal.db (with journal.db-wal) from a backup, or move \
          \(dataDirectory)/instances and \(dataDirectory)/snapshots away to start without them.
          """)
      }
    }
    return try Journal(path: path)
  }

  /// The embedded database is made on the first start. Where it is missing afterwards, another one is meant.
  private func refuseMissingFile(_ identity: HostIdentity, sandboxes: Int, holdings: Int) throws {
    guard case .embedded = choice, identity.installation != nil || holdings > 0, !adopts else { return }
    let path = dataDirectory.appending("martlet.db")
    let size = try FileStatus.of(path.string, followingLinks: true)?.sizeBytes ?? 0
    guard size == 0 else { return }
    throw refusal(identity, .empty, holdings: holdings)
  }

  private func decide(
    _ identity: HostIdentity, _ journal: Journal, _ sandboxes: [SandboxID], _ holdings: Int, _ database: any Database
  ) async throws -> InstallationID {
    let repository = InstallationRepository(database: database)
    let condition = try await repository.condition()
    var decision = InstallationDecision(
      host: identity.installation, database: condition, holdings: holdings, isKnown: false, adopts: adopts)
    if decision.outcome == .refuse, identity.installation == nil, condition != .empty {
      try await Migrator(database: database).migrateUp()
      decision.isKnown = try await repository.knows(identity.id, holding: sandboxes)
    }
    guard decision.outcome != .refuse else { throw refusal(identity, condition, holdings: holdings) }
    try await Migrator(database: database).migrateUp()
    return try await repository.id()
  }

  private func refusal(
    _ identity: HostIdentity, _ condition: InstallationRepository.Condition, holdings: Int
  ) -> MartletError {
    let found =
      switch condition {
      case .empty: "is empty"
      case .unnamed: "is of an earlier version, and does not know this host"
      case .named(let id): "belongs to installation \(id)"
      }
    let own = identity.installation.map { "to installation \($0)" } ?? "to another database"
    return MartletError(
      .wrongInstallation,
      """
      \(databaseName) \(found), but the data directory \(dataDirectory) belongs \(own) and holds \(holdings) sandboxes \
      and snapshots; nothing was changed. Give the right database (DATABASE_URL, or the right martlet.db), or start once \
      with `martlet up --adopt` to bring this host into this database: what it does not know is quarantined, and \
      nothing is destroyed.
      """)
  }

  /// Without what a URL may hold of secrets.
  private var databaseName: String {
    switch choice {
    case .embedded: "the database \(dataDirectory.appending("martlet.db"))"
    case .postgres: "the PostgreSQL database that DATABASE_URL names"
    }
  }
}
