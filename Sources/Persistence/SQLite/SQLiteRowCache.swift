import Concurrency
import GRDB

/// Caches rows that look-ups found, as long as nothing was committed since.
///
/// A commit of this process empties the cache before the writer learns of it, so a look-up never returns a row that is
/// older than an acknowledged write. Commits of other programs on the same file (`martlet user`, the `sqlite3` shell)
/// are noticed within `externalCheckInterval`.
///
/// Source: https://www.sqlite.org/pragma.html#pragma_data_version
final class SQLiteRowCache: Sendable {
  private struct State {
    var rows = RowCache()
    var nextCheck: ContinuousClock.Instant
  }

  /// How often the cache checks for commits of other programs.
  static let externalCheckInterval: Duration = .milliseconds(100)

  private let externalCommits: ExternalCommits
  private let state: Mutex<State>

  init(externalCommits: ExternalCommits) {
    self.externalCommits = externalCommits
    state = Mutex(State(nextCheck: .now + Self.externalCheckInterval))
  }

  /// - Returns: the cached row, if any, and the current version. The caller passes that version to `keep` with a row
  ///   that it reads afterwards.
  /// - Throws: `DatabaseError` when the check for commits of other programs fails.
  func row(_ key: RowCache.Key) throws -> (row: SQLRow?, version: DatabaseVersion) {
    try checkExternalCommits()
    return state.withLock { ($0.rows[key], $0.rows.version) }
  }

  /// The current version; changes with every commit.
  /// - Throws: as `row`.
  func version() throws -> DatabaseVersion {
    try checkExternalCommits()
    return state.withLock { $0.rows.version }
  }

  private func checkExternalCommits() throws {
    let now = ContinuousClock.now
    let isDue = state.withLock { state in
      guard now >= state.nextCheck else { return false }
      state.nextCheck = now + Self.externalCheckInterval
      return true
    }
    if isDue, try externalCommits.haveOccurred() { invalidate() }
  }

  /// Caches the row, unless something was committed since `version`.
  func keep(_ row: SQLRow, _ key: RowCache.Key, version: DatabaseVersion) {
    state.withLock { state in
      if state.rows.version == version { state.rows.keep(row, key) }
    }
  }

  func invalidate() {
    state.withLock { $0.rows.advance() }
  }
}

/// Detects commits to the database file by other connections. Uses a connection of its own, as `data_version` is per
/// connection.
final class ExternalCommits: Sendable {
  private let connection: DatabaseQueue
  private let last = Mutex(Int64?.none)

  /// - Parameter path: a database in WAL mode that another connection keeps open.
  init(path: String, configuration: Configuration = Configuration()) throws {
    connection = try DatabaseQueue(path: path, configuration: configuration)
  }

  /// Whether anything was committed since the last call; true at the first call. Includes commits of this process.
  func haveOccurred() throws -> Bool {
    let version = try connection.unsafeRead { database in
      try SQLiteRows.all(database.cachedStatement(sql: "PRAGMA data_version"), [], database).first?.integer(0)
    }
    return last.withLock { last in
      defer { last = version.map(Int64.init) }
      return version.map(Int64.init) != last
    }
  }

  func close() throws {
    try connection.close()
  }
}
