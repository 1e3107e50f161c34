package import Logging

/// A PostgreSQL server, reached through libpq; shared by any number of control planes.
///
/// A bounded number of threads own one connection each; statements are prepared once per connection and their
/// parameters and results go in binary form. A connection that broke is dropped, and the call is run again where that
/// is safe: reads, and transactions whose commit was not sent. Calls ride out an absence of the server of
/// `PostgresConfiguration.patience`; after that they throw `PersistenceError.unavailable` until it is back.
///
/// Look-ups have a connection for themselves, and what they found is kept for as long as the server says that nothing
/// was committed since (`PostgresLookUps`).
///
/// Prepared statements and session locks need a connection to the server itself, or a pooler in session mode.
///
/// Source: https://www.postgresql.org/docs/current/libpq.html
package final class PostgresDatabase: Database {
  package let dialect = SQLDialect.postgresql
  package let worker = WorkerID.random()
  private let pool: PostgresPool
  private let lookUps: PostgresLookUps
  /// The connection that holds the leadership serves nothing else: its end is the lock's end.
  private let lockPool: PostgresPool

  /// Connects when it is first used. To be closed, as its threads keep it alive.
  package init(_ configuration: PostgresConfiguration, logger: Logger) {
    let servers = PostgresServers()
    pool = PostgresPool(configuration, servers: servers, logger: logger)
    lookUps = PostgresLookUps(configuration, servers: servers, logger: logger)
    var single = configuration
    single.maximumConnections = 1
    lockPool = PostgresPool(single, servers: servers, logger: logger)
  }

  package func version() async throws -> DatabaseVersion? {
    try Task.checkCancellation()
    return try await lookUps.version()
  }

  package func find(
    _ sql: String, _ parameters: [SQLValue], notBefore version: DatabaseVersion?
  ) async throws -> Finding<SQLRow?> {
    try Task.checkCancellation()
    return try await lookUps.row(PostgresLookUp(sql: sql, parameters: parameters), notBefore: version)
  }

  package func query<Value: Sendable>(
    _ body: @escaping @Sendable (any SQLConnection) throws -> Value
  ) async throws -> Value {
    try await run(.query, body)
  }

  package func read<Value: Sendable>(
    _ body: @escaping @Sendable (any SQLConnection) throws -> Value
  ) async throws -> Value {
    try await run(.read, body)
  }

  package func write<Value: Sendable>(
    _ body: @escaping @Sendable (any SQLConnection) throws -> Value
  ) async throws -> Value {
    try await run(.write, body)
  }

  package func migrate<Value: Sendable>(
    _ body: @escaping @Sendable (any SQLConnection) throws -> Value
  ) async throws -> Value {
    try await run(.migrate, body)
  }

  package func makeLeaderLock() -> any LeaderLock { PostgresLeaderLock(pool: lockPool, worker: worker) }

  /// Asks the server for its version.
  package func serverVersion() async throws -> String {
    try await query { try $0.row("SHOW server_version", [])?.text(0) ?? "" }
  }

  package func close() async throws {
    await lockPool.close()
    await lookUps.close()
    await pool.close()
  }

  private func run<Value: Sendable>(
    _ call: PostgresCall, _ body: @escaping @Sendable (any SQLConnection) throws -> Value
  ) async throws -> Value {
    try Task.checkCancellation()
    return try await pool.run { session, start in try session.run(call, since: start) { try body($0) } }
  }
}
