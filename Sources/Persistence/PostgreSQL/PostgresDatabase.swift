package import Logging

/// A database on a PostgreSQL server, accessed through libpq and shared by any number of control planes.
///
/// A bounded number of threads own one connection each. Statements are prepared once per connection; parameters and
/// results are transferred in binary format. A broken connection is closed, and the call is retried where that is safe:
/// reads, and transactions whose COMMIT was not sent. While the server is unreachable, calls wait for it up to
/// `PostgresConfiguration.patience`; then they throw `PersistenceError.unavailable` until it is available again.
///
/// Look-ups have a connection of their own, and the rows they find are cached as long as the server reports that
/// nothing was committed since (`PostgresLookUps`).
///
/// Prepared statements and session locks need a direct connection to the server, or a pooler in session mode.
///
/// Source: https://www.postgresql.org/docs/current/libpq.html
package final class PostgresDatabase: Database {
  package let dialect = SQLDialect.postgresql
  package let worker = WorkerID.random()
  private let pool: PostgresPool
  private let lookUps: PostgresLookUps
  /// A pool with the one connection that holds the leader lock and serves nothing else: the lock ends with the
  /// connection.
  private let lockPool: PostgresPool

  /// Connects on first use. The owner must call `close`, as the threads keep the instance alive.
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
  ) async throws -> LookUpResult<SQLRow?> {
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

  /// The version of the server, such as `16.3`.
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
