import Foundation
import GRDB
import LinuxSystem
import Model

/// A SQLite database: one file in WAL mode with a single writer and a few readers.
///
/// `synchronous` is FULL: a commit is on disk before it is acknowledged, because a sandbox or key that a client knows
/// must survive a power failure. NORMAL would lose the last commits; its speed is not needed, since only lifecycle
/// transitions wait for a commit, while reads, activity and the audit of guest operations do not.
///
/// Source: https://www.sqlite.org/wal.html, https://www.sqlite.org/pragma.html#pragma_synchronous
package final class SQLiteDatabase: Database {
  /// Further readers wait; each has a page cache of at most 2 MiB.
  package static let maximumReaders = 4
  /// How long a connection waits for a lock held by another process (a backup, the `sqlite3` shell).
  package static let busyTimeoutSeconds = 5.0

  package let dialect = SQLDialect.sqlite
  package let worker = WorkerID.random()
  private let pool: DatabasePool
  private let lookUps: SQLiteLookUps
  private let externalCommits: ExternalCommits
  private let cache: SQLiteRowCache

  /// Opens or creates the file; its directory must exist.
  /// - Throws: `PersistenceError.failed` when the file cannot be opened or is not a database.
  package init(path: String) throws {
    var configuration = Configuration()
    configuration.foreignKeysEnabled = true
    configuration.busyMode = .timeout(Self.busyTimeoutSeconds)
    configuration.maximumReaderCount = Self.maximumReaders
    configuration.label = "martlet.database"
    configuration.prepareDatabase { database in
      try database.execute(sql: "PRAGMA synchronous = FULL")
      try database.execute(sql: "PRAGMA cache_size = -2048")
    }
    do {
      // Rows hold password hashes and environment values. SQLite gives the files beside it the same mode.
      try SmallFile.reservePrivate(path)
      pool = try DatabasePool(path: path, configuration: configuration)
      configuration.readonly = true
      externalCommits = try ExternalCommits(path: path, configuration: configuration)
    } catch {
      throw Self.translate(error)
    }
    lookUps = SQLiteLookUps(path: path, configuration: configuration)
    cache = SQLiteRowCache(externalCommits: externalCommits)
  }

  package func version() async throws -> DatabaseVersion? {
    do {
      return try cache.version()
    } catch {
      throw Self.translate(error)
    }
  }

  /// Runs on the calling thread, and uses `SQLiteRowCache` if nothing was committed since the row was read. A look-up
  /// by key takes a few microseconds, mostly from SQLite's page cache; switching to a blocking thread and back would
  /// take ten times as long. Blocking is bounded: by a disk read for a page that is not cached, and by
  /// `busyTimeoutSeconds` while another process recovers the file. The writer never blocks readers (WAL).
  package func find(
    _ sql: String, _ parameters: [SQLValue], notBefore _: DatabaseVersion?
  ) async throws -> LookUpResult<SQLRow?> {
    try findBlocking(sql, parameters)
  }

  // GRDB's blocking calls are available only outside of asynchronous functions.
  private func findBlocking(_ sql: String, _ parameters: [SQLValue]) throws -> LookUpResult<SQLRow?> {
    do {
      let key = RowCache.Key(sql: sql, parameters: parameters)
      let (cached, version) = try cache.row(key)
      if let cached { return LookUpResult(cached, version: version) }
      let row = try lookUps.use { try SQLiteConnection(database: $0).row(sql, parameters) }
      if let row { cache.keep(row, key, version: version) }
      return LookUpResult(row, version: version)
    } catch {
      throw Self.translate(error)
    }
  }

  package func query<Value: Sendable>(
    _ body: @escaping @Sendable (any SQLConnection) throws -> Value
  ) async throws -> Value {
    try await Self.translating { try await pool.unsafeRead { try body(SQLiteConnection(database: $0)) } }
  }

  package func read<Value: Sendable>(
    _ body: @escaping @Sendable (any SQLConnection) throws -> Value
  ) async throws -> Value {
    try await Self.translating { try await pool.read { try body(SQLiteConnection(database: $0)) } }
  }

  package func write<Value: Sendable>(
    _ body: @escaping @Sendable (any SQLConnection) throws -> Value
  ) async throws -> Value {
    // Also on a throw: a commit that could not be confirmed may have been made.
    defer { cache.invalidate() }
    return try await Self.translating { try await pool.write { try body(SQLiteConnection(database: $0)) } }
  }

  package func migrate<Value: Sendable>(
    _ body: @escaping @Sendable (any SQLConnection) throws -> Value
  ) async throws -> Value {
    try await write(body)
  }

  package func makeLeaderLock() -> any LeaderLock { UncontestedLock(worker: worker) }

  package func close() async throws {
    do {
      cache.invalidate()
      try lookUps.close()
      try externalCommits.close()
      try pool.close()
    } catch {
      throw Self.translate(error)
    }
  }

  private static func translating<Value>(_ work: () async throws -> Value) async throws -> Value {
    do {
      return try await work()
    } catch {
      throw translate(error)
    }
  }

  /// Maps SQLite's result codes to `PersistenceError`. Source: https://www.sqlite.org/rescode.html
  fileprivate static func translate(_ error: any Error) -> any Error {
    guard let error = error as? DatabaseError else { return error }
    let text = error.message ?? "code \(error.extendedResultCode.rawValue)"
    switch error.extendedResultCode {
    case .SQLITE_CONSTRAINT_UNIQUE, .SQLITE_CONSTRAINT_PRIMARYKEY: return PersistenceError.duplicate(text)
    default: break
    }
    return error.resultCode == .SQLITE_CONSTRAINT ? PersistenceError.constraint(text) : PersistenceError.failed(text)
  }
}

private struct SQLiteConnection: SQLConnection {
  let database: GRDB.Database
  var dialect: SQLDialect { .sqlite }

  /// GRDB's statement cache has no bound, and filtered lists yield thousands of different texts. Statements with more
  /// parameters than this are prepared each time, which leaves a few hundred to cache.
  private static let maximumCachedParameters = 16

  func rows(_ sql: String, _ parameters: [SQLValue]) throws -> [SQLRow] {
    let isCached = parameters.count <= Self.maximumCachedParameters
    let statement = try isCached ? database.cachedStatement(sql: sql) : database.makeStatement(sql: sql)
    return try SQLiteRows.all(statement, parameters, database)
  }

  func execute(_ sql: String, _ parameters: [SQLValue]) throws -> Int {
    let statement = try database.cachedStatement(sql: sql)
    try statement.execute(arguments: Self.arguments(parameters))
    return database.changesCount
  }

  func executeScript(_ sql: String) throws {
    try database.execute(sql: sql)
  }

  private static func arguments(_ parameters: [SQLValue]) -> StatementArguments {
    StatementArguments(parameters.map(argument))
  }

  private static func argument(_ value: SQLValue) -> DatabaseValue {
    switch value {
    case .null: .null
    case .integer(let number): number.databaseValue
    case .text(let text): text.databaseValue
    case .blob(let bytes): Data(bytes).databaseValue
    case .bool(let flag): (flag ? 1 : 0).databaseValue
    case .uuid(let uuid): UUIDText.string(uuid).databaseValue
    case .timestamp(let date): StoredTime.microseconds(date).databaseValue
    }
  }
}
