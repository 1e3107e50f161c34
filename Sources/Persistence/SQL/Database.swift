/// Which flavour of SQL a database speaks; selects the set of migrations.
package enum SQLDialect: String, Sendable, CaseIterable {
  case sqlite
}

/// One connection, inside `Database.query`, `read` or `write`. Calls block the thread; drivers run the closures on threads of
/// their own, never on the cooperative pool.
///
/// Statements are prepared once per connection and kept. Placeholders are `?`, in order; literals in the text must not hold `?`.
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
}

/// The small SQL interface that repositories are written against; one implementation per database.
package protocol Database: Sendable {
  var dialect: SQLDialect { get }

  /// Reads one row by a unique key, and nothing longer: a driver may do it on the calling thread.
  func lookUp(_ sql: String, _ parameters: [SQLValue]) async throws -> SQLRow?
  /// Runs one read-only statement, without the cost of an explicit transaction.
  func query<Value: Sendable>(_ body: @escaping @Sendable (any SQLConnection) throws -> Value) async throws -> Value
  /// Runs several read-only statements that see the same state of the database.
  func read<Value: Sendable>(_ body: @escaping @Sendable (any SQLConnection) throws -> Value) async throws -> Value
  /// Runs `body` in a transaction: committed (and durable) when this returns, rolled back when `body` throws. `body` may run
  /// again when the database asks for a retry, so it must have no other effects.
  func write<Value: Sendable>(_ body: @escaping @Sendable (any SQLConnection) throws -> Value) async throws -> Value
  /// Closes all connections; later calls throw.
  func close() async throws
}

extension Database {
  package func lookUp(_ sql: String, _ parameters: [SQLValue]) async throws -> SQLRow? {
    try await query { try $0.row(sql, parameters) }
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
  /// Everything else that the database said: disk full, locked for longer than the busy time-out, closed.
  case failed(String)

  package var description: String {
    switch self {
    case .duplicate(let text): "duplicate: \(text)"
    case .constraint(let text): "constraint: \(text)"
    case .corruptRow(let text): "corrupt row: \(text)"
    case .incompatibleSchema(let text): "incompatible schema: \(text)"
    case .failed(let text): "database: \(text)"
    }
  }
}
