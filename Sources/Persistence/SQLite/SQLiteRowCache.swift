import Concurrency
import GRDB

/// Rows that look-ups found, for as long as nothing was committed since.
///
/// A commit of this process empties the cache before the writer is told of it, so a look-up never returns a row that is
/// older than a write that was acknowledged. Another program at the same file (`martlet user`, the `sqlite3` shell) is
/// noticed within `foreignInterval`.
///
/// Source: https://www.sqlite.org/pragma.html#pragma_data_version
final class SQLiteRowCache: Sendable {
  private struct State {
    var rows = RowCache()
    var nextCheck: ContinuousClock.Instant
  }

  /// How long a commit of another program may stay unnoticed.
  static let foreignInterval: Duration = .milliseconds(100)

  private let watch: ForeignCommits
  private let state: Mutex<State>

  init(watch: ForeignCommits) {
    self.watch = watch
    state = Mutex(State(nextCheck: .now + Self.foreignInterval))
  }

  /// - Returns: the row, and the version that it is of, or with which to `keep` what the database says.
  /// - Throws: `DatabaseError` when the database cannot be asked for commits of others.
  func row(_ key: RowCache.Key) throws -> (row: SQLRow?, version: DatabaseVersion) {
    try noticeOthers()
    return state.withLock { ($0.rows[key], $0.rows.version) }
  }

  /// Another one after every commit.
  /// - Throws: as `row`.
  func version() throws -> DatabaseVersion {
    try noticeOthers()
    return state.withLock { $0.rows.version }
  }

  private func noticeOthers() throws {
    let now = ContinuousClock.now
    let isDue = state.withLock { state in
      guard now >= state.nextCheck else { return false }
      state.nextCheck = now + Self.foreignInterval
      return true
    }
    if isDue, try watch.happened() { forget() }
  }

  /// Drops the row when something was committed since `version` was asked for.
  func keep(_ row: SQLRow, _ key: RowCache.Key, version: DatabaseVersion) {
    state.withLock { state in
      if state.rows.version == version { state.rows.keep(row, key) }
    }
  }

  func forget() {
    state.withLock { $0.rows.advance() }
  }
}

/// Tells whether anybody else committed to the file; a connection of its own, because SQLite counts per connection.
final class ForeignCommits: Sendable {
  private let connection: DatabaseQueue
  private let last = Mutex(Int64?.none)

  /// - Parameter path: a database in WAL mode that another connection keeps open.
  init(path: String, configuration: Configuration = Configuration()) throws {
    connection = try DatabaseQueue(path: path, configuration: configuration)
  }

  /// Whether there were commits since the last call; true at the first one. Those of this process count too.
  func happened() throws -> Bool {
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
