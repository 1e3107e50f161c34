import GRDB
import Synchronization

/// Rows that look-ups found, for as long as nothing was committed since.
///
/// A commit of this process empties the cache before the writer is told of it, so a look-up never returns a row that is older than a
/// write that was acknowledged. Another program at the same file (`martlet user`, the `sqlite3` shell) is noticed within
/// `foreignInterval`. Rows that are not there are not remembered.
///
/// Source: https://www.sqlite.org/pragma.html#pragma_data_version
final class SQLiteRowCache: Sendable {
  struct Key: Hashable, Sendable {
    let sql: String
    let parameters: [SQLValue]

    /// The parameters tell the keys apart; the text only has to be compared.
    func hash(into hasher: inout Hasher) {
      hasher.combine(parameters)
    }
  }

  private struct State {
    var rows: [Key: SQLRow] = [:]
    /// Counts the times that the rows were forgotten.
    var version = 0
    var nextCheck: ContinuousClock.Instant
  }

  /// How long a commit of another program may stay unnoticed.
  static let foreignInterval: Duration = .milliseconds(100)
  /// With rows of at most `maximumRowBytes` this is a few mebibytes.
  static let maximumRows = 1_024
  static let maximumRowBytes = 4_096

  private let watch: ForeignCommits
  private let state: Mutex<State>

  init(watch: ForeignCommits) {
    self.watch = watch
    state = Mutex(State(nextCheck: .now + Self.foreignInterval))
  }

  /// - Returns: the row, or the version with which to `keep` what the database says.
  /// - Throws: `DatabaseError` when the database cannot be asked for commits of others.
  func row(_ key: Key) throws -> (row: SQLRow?, version: Int) {
    try noticeOthers()
    return state.withLock { ($0.rows[key], $0.version) }
  }

  /// Another one after every commit.
  /// - Throws: as `row`.
  func version() throws -> Int {
    try noticeOthers()
    return state.withLock { $0.version }
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
  func keep(_ row: SQLRow, _ key: Key, version: Int) {
    guard row.textBytes <= Self.maximumRowBytes else { return }
    state.withLock { state in
      guard state.version == version else { return }
      if state.rows.count >= Self.maximumRows { state.rows = [:] }
      state.rows[key] = row
    }
  }

  func forget() {
    state.withLock { state in
      state.version += 1
      state.rows.removeAll(keepingCapacity: true)
    }
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
