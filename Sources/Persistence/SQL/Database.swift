package import Model

/// One connection, inside `Database.query`, `read` or `write`. Calls block the thread; drivers run the closures on
/// threads of their own, never on the cooperative pool.
///
/// Statements are prepared once per connection and kept. Placeholders are `?`, in order; literals in the text must not
/// hold `?`.
package protocol SQLConnection {
  var dialect: SQLDialect { get }
  /// - Throws: `PersistenceError`.
  func rows(_ sql: String, _ parameters: [SQLValue]) throws -> [SQLRow]
  /// Runs a statement that returns no rows.
  /// - Returns: the number of rows that it changed.
  @discardableResult
  func execute(_ sql: String, _ parameters: [SQLValue]) throws -> Int
  /// Runs several statements without parameters; for migrations.
  func executeScript(_ sql: String) throws
}

extension SQLConnection {
  package func row(_ sql: String, _ parameters: [SQLValue]) throws -> SQLRow? {
    try rows(sql, parameters).first
  }

  package func rows(_ sql: String) throws -> [SQLRow] { try rows(sql, []) }

  /// Has the server give up each later statement of this transaction after `duration`. SQLite has no such bound: its
  /// readers hold up nobody.
  func limitStatements(to duration: Duration) throws {
    guard dialect == .postgresql else { return }
    let milliseconds = duration.components.seconds * 1_000 + duration.components.attoseconds / 1_000_000_000_000_000
    _ = try row("SELECT set_config('statement_timeout', ?, true)", [.text("\(milliseconds)")])
  }
}

/// The small SQL interface that repositories are written against; one implementation per database.
package protocol Database: Sendable {
  var dialect: SQLDialect { get }
  /// This program, as its rows name it.
  var worker: WorkerID { get }
  /// One that the database has after the call began. Nil where that cannot be told.
  /// - Throws: `PersistenceError`.
  func version() async throws -> DatabaseVersion?
  /// Reads one row by a unique key, and nothing longer: a driver may do it on the calling thread. The row is what the
  /// database says at some moment after the call began.
  /// - Parameter version: one from an earlier answer; then the row may also be from between that answer and this call.
  ///   For calls that belong to one request, and not after a change whose outcome the caller was told.
  /// - Throws: `PersistenceError`.
  func find(
    _ sql: String, _ parameters: [SQLValue], notBefore version: DatabaseVersion?
  ) async throws -> Finding<SQLRow?>
  /// Runs one read-only statement, without the cost of an explicit transaction.
  func query<Value: Sendable>(_ body: @escaping @Sendable (any SQLConnection) throws -> Value) async throws -> Value
  /// Runs several read-only statements that see the same state of the database.
  func read<Value: Sendable>(_ body: @escaping @Sendable (any SQLConnection) throws -> Value) async throws -> Value
  /// Runs `body` in a transaction: committed (and durable) when this returns, rolled back when `body` throws. `body`
  /// may run again when the database asks for a retry, so it must have no other effects. After a statement of it failed
  /// it can only throw: PostgreSQL refuses whatever else it tries.
  ///
  /// Transactions of all programs on the database come out as if they had run one after the other.
  /// - Throws: what `body` throws, `PersistenceError`; with `outcomeUnknown` it is not known whether the commit was
  ///   done, and nothing was tried again.
  func write<Value: Sendable>(_ body: @escaping @Sendable (any SQLConnection) throws -> Value) async throws -> Value
  /// Like `write`, but for changes of the schema: programs that use the database together do it one at a time, each
  /// seeing all that the one before it did, and it may take minutes.
  func migrate<Value: Sendable>(_ body: @escaping @Sendable (any SQLConnection) throws -> Value) async throws -> Value
  /// A candidate for the leadership among the programs that use this database together (MO-4).
  func makeLeaderLock() -> any LeaderLock
  /// Closes all connections; later calls throw.
  func close() async throws
}

extension Database {
  /// The row as the database has it at some moment after the call began.
  package func lookUp(_ sql: String, _ parameters: [SQLValue]) async throws -> SQLRow? {
    try await find(sql, parameters, notBefore: nil).value
  }
}

package enum PersistenceError: Error, Sendable, CustomStringConvertible {
  /// A row with this key exists already.
  case duplicate(String)
  /// A constraint other than uniqueness refused the change.
  case constraint(String)
  /// A row does not have the shape that the schema promises.
  case corruptRow(String)
  /// The schema is newer than this program, or was changed by hand.
  case incompatibleSchema(String)
  /// The database does not answer, or was too busy to do it in time; nothing was changed.
  case unavailable(String)
  /// The connection broke while a change was being committed: it was made as a whole or not at all, and nobody knows
  /// which.
  case outcomeUnknown(String)
  /// Everything else that the database said: disk full, locked for longer than the busy time-out, closed.
  case failed(String)

  package var description: String {
    switch self {
    case .duplicate(let text): "duplicate: \(text)"
    case .constraint(let text): "constraint: \(text)"
    case .corruptRow(let text): "corrupt row: \(text)"
    case .incompatibleSchema(let text): "incompatible schema: \(text)"
    case .unavailable(let text): "database unavailable: \(text)"
    case .outcomeUnknown(let text): "outcome unknown: \(text)"
    case .failed(let text): "database: \(text)"
    }
  }
}

extension PersistenceError {
  package var isOutcomeUnknown: Bool {
    guard case .outcomeUnknown = self else { return false }
    return true
  }

  /// Whether it is the server that does not answer, and not a statement that is at fault.
  package var isUnavailable: Bool {
    guard case .unavailable = self else { return false }
    return true
  }
}

extension PersistenceError: MartletErrorConvertible {
  package var martletError: MartletError? {
    switch self {
    case .unavailable:
      MartletError(.databaseUnavailable, "the database does not answer at the moment; try again", cause: self)
    case .outcomeUnknown:
      MartletError(
        .outcomeUnknown,
        "the database went away while the change was being saved; look whether it was made before trying again",
        cause: self)
    case .duplicate, .constraint, .corruptRow, .incompatibleSchema, .failed: nil
    }
  }
}
