package import Model

/// A database connection inside `Database.query`, `read` or `write`. Calls block the thread; drivers run the closures
/// on threads of their own, never on the cooperative pool.
///
/// Statements are prepared once per connection and kept. Placeholders are `?`, in order; literals in the SQL text must
/// not contain `?`.
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

  /// Makes the server cancel each later statement of this transaction after `duration`. No-op on SQLite, whose readers
  /// do not block other connections.
  func limitStatements(to duration: Duration) throws {
    guard dialect == .postgresql else { return }
    let milliseconds = duration.components.seconds * 1_000 + duration.components.attoseconds / 1_000_000_000_000_000
    _ = try row("SELECT set_config('statement_timeout', ?, true)", [.text("\(milliseconds)")])
  }
}

/// The SQL interface that repositories use; one implementation per database system.
package protocol Database: Sendable {
  var dialect: SQLDialect { get }
  /// Identifies this run of the program in the rows that it changes.
  var worker: WorkerID { get }
  /// A version that the database has after the call began; nil if the driver cannot determine one.
  /// - Throws: `PersistenceError`.
  func version() async throws -> DatabaseVersion?
  /// Reads one row by a unique key. Only for such short statements: a driver may run them on the calling thread. The
  /// row is the state of the database at some moment after the call began.
  /// - Parameter version: from an earlier result. If given, the row may also be as old as that result. For calls that
  ///   belong to one request; not after a change whose outcome the caller knows.
  /// - Throws: `PersistenceError`.
  func find(
    _ sql: String, _ parameters: [SQLValue], notBefore version: DatabaseVersion?
  ) async throws -> LookUpResult<SQLRow?>
  /// Runs one read-only statement, without the cost of an explicit transaction.
  func query<Value: Sendable>(_ body: @escaping @Sendable (any SQLConnection) throws -> Value) async throws -> Value
  /// Runs several read-only statements that see the same state of the database.
  func read<Value: Sendable>(_ body: @escaping @Sendable (any SQLConnection) throws -> Value) async throws -> Value
  /// Runs `body` in a transaction: committed (and durable) when this returns, rolled back when `body` throws. The
  /// driver may run `body` again when the database requires a retry, so it must have no other effects. After one of its
  /// statements failed, `body` can only throw: PostgreSQL rejects all further statements of the transaction.
  ///
  /// Transactions of all programs on the database are serializable.
  /// - Throws: what `body` throws, or `PersistenceError`. `outcomeUnknown` means that the commit may or may not have
  ///   succeeded; it is not retried.
  func write<Value: Sendable>(_ body: @escaping @Sendable (any SQLConnection) throws -> Value) async throws -> Value
  /// Like `write`, but for schema changes: programs that share the database run them one at a time, each sees all
  /// effects of the one before it, and one may take minutes.
  func migrate<Value: Sendable>(_ body: @escaping @Sendable (any SQLConnection) throws -> Value) async throws -> Value
  /// Creates a lock with which one of the programs that share this database becomes the leader.
  func makeLeaderLock() -> any LeaderLock
  /// Closes all connections; later calls throw.
  func close() async throws
}

extension Database {
  /// Reads one row by a unique key, as of some moment after the call began.
  package func lookUp(_ sql: String, _ parameters: [SQLValue]) async throws -> SQLRow? {
    try await find(sql, parameters, notBefore: nil).value
  }
}

package enum PersistenceError: Error, Sendable, CustomStringConvertible {
  /// A row with this key exists already.
  case duplicate(String)
  /// A constraint other than uniqueness refused the change.
  case constraint(String)
  /// A row does not have the form that the schema guarantees.
  case corruptRow(String)
  /// The schema is newer than this program, or was changed manually.
  case incompatibleSchema(String)
  /// The database did not respond, or was too busy to do so in time; nothing was changed.
  case unavailable(String)
  /// The connection broke during a commit: the transaction was committed as a whole or not at all, and the client
  /// cannot tell which.
  case outcomeUnknown(String)
  /// Any other database error: disk full, locked for longer than the busy time-out, closed.
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

  /// Whether the server does not respond, in contrast to a statement that is at fault.
  package var isUnavailable: Bool {
    guard case .unavailable = self else { return false }
    return true
  }
}

extension PersistenceError: MartletErrorConvertible {
  package var martletError: MartletError? {
    switch self {
    case .unavailable:
      MartletError(.databaseUnavailable, "the database does not respond at the moment; try again", cause: self)
    case .outcomeUnknown:
      MartletError(
        .outcomeUnknown,
        "the connection to the database was lost while the change was being saved; "
          + "check whether it was made before you try again",
        cause: self)
    case .duplicate, .constraint, .corruptRow, .incompatibleSchema, .failed: nil
    }
  }
}
