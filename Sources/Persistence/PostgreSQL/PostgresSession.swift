import Glibc
import Logging

/// A thread's connection to the server, established on demand and again after it broke, and the calls that run on it.
final class PostgresSession {
  /// How much longer than the server's own time-out the client waits before it closes an unresponsive connection.
  private static let margin: Duration = .seconds(5)

  private let configuration: PostgresConfiguration
  private let servers: PostgresServers
  private let logger: Logger
  private var connection: PostgresConnection?

  init(_ configuration: PostgresConfiguration, servers: PostgresServers, logger: Logger) {
    self.configuration = configuration
    self.servers = servers
    self.logger = logger
  }

  /// Runs a call, with as many attempts as `PostgresRetryPolicy` allows.
  /// - Parameter start: when the caller began to wait.
  func run<Value>(
    _ call: PostgresCall, since start: ContinuousClock.Instant, _ body: (PostgresConnection) throws -> Value
  ) throws -> Value {
    var policy = PostgresRetryPolicy(call, reconnectDeadline: start + configuration.patience)
    while true {
      switch attempt(call, body) {
      case .success(let value):
        return value
      case .failure(let failed):
        guard let failure = failed.failure else { throw failed.error }
        switch policy.decide(failure, isCommitting: failed.isCommitting, now: .now) {
        case .retry(let pause): sleep(within: pause)
        case .report: throw failed.error
        case .reportUnknownOutcome: throw PersistenceError.outcomeUnknown(failure.text)
        }
      }
    }
  }

  /// Runs `body` on the connection once, outside of any transaction; for session-level state such as advisory locks.
  func onConnection<Value>(_ body: (PostgresConnection) throws -> Value) throws -> Value {
    let connection = try connected()
    connection.begin(until: .now + Self.margin)
    do {
      return try body(connection)
    } catch {
      disconnect()
      throw error
    }
  }

  /// Closes the connection, which releases all its locks.
  func disconnect() {
    connection = nil
  }

  // MARK: - Attempts

  private struct AttemptFailure: Error {
    /// The error for the caller.
    var error: any Error
    /// The database error; nil when `body` threw an error of its own.
    var failure: PostgresFailure?
    var isCommitting = false
  }

  private func attempt<Value>(
    _ call: PostgresCall, _ body: (PostgresConnection) throws -> Value
  ) -> Result<Value, AttemptFailure> {
    let connection: PostgresConnection
    do {
      connection = try connected()
    } catch {
      return .failure(AttemptFailure(error: error.persistenceError, failure: error))
    }
    servers.willUse(connection.server)
    var isCommitting = false
    connection.begin(
      until: .now + (call == .migrate ? configuration.migrationTimeout : configuration.statementTimeout) + Self.margin)
    defer { restore(connection, after: call) }
    do {
      if call == .migrate { try prepareMigration(connection) }
      guard let opening = call.opening else { return .success(try body(connection)) }
      try connection.command(opening)
      let value = try body(connection)
      isCommitting = true
      try commit(connection)
      return .success(value)
    } catch {
      let error = (error as? PostgresFailure)?.persistenceError ?? error
      return .failure(
        AttemptFailure(error: error, failure: connection.failure, isCommitting: isCommitting && connection.isBroken))
    }
  }

  private func commit(_ connection: PostgresConnection) throws {
    // After a failed statement whose error `body` ignored, the server responds to COMMIT with ROLLBACK.
    guard try connection.command("COMMIT") == "COMMIT" else {
      throw connection.failure?.persistenceError ?? PersistenceError.failed("the transaction was rolled back")
    }
  }

  /// Takes the migration lock; waiting for another program's migration counts towards the time limit.
  private func prepareMigration(_ connection: PostgresConnection) throws {
    let limit = configuration.migrationTimeout.wholeMilliseconds
    try connection.command("SET statement_timeout = \(limit); SET lock_timeout = \(limit)")
    _ = try connection.row("SELECT pg_advisory_lock(?, ?)", PostgresLock.migrations.keys)
  }

  /// Leaves either a connection that the next call can use, or none.
  private func restore(_ connection: PostgresConnection, after call: PostgresCall) {
    // A migration's connection holds the migration lock, has different time-outs, and its prepared statements refer to
    // the old schema.
    guard call != .migrate, !connection.isBroken, connection.failure?.kind != .readOnly else { return disconnect() }
    do {
      if connection.failure?.kind == .staleStatement {
        if !connection.isIdle { try connection.command("ROLLBACK") }
        try connection.forgetStatements()
      }
      if !connection.isIdle { try connection.command("ROLLBACK") }
    } catch {
      disconnect()
    }
  }

  // MARK: - Connecting

  private func connected() throws(PostgresFailure) -> PostgresConnection {
    if let connection { return connection }
    let made = try PostgresConnection(configuration, logger: logger)
    made.begin(until: .now + Self.margin)
    let limit = configuration.statementTimeout.wholeMilliseconds
    // Transactions are read-only unless they state otherwise, as on SQLite, whose readers cannot write. With TCP
    // keepalives the server detects a client machine that vanished within half a minute instead of two hours, and
    // releases its locks, including the leader lock.
    let server = try made.text(
      """
      SET default_transaction_read_only = on; SET statement_timeout = \(limit); SET lock_timeout = \(limit); \
      SET idle_in_transaction_session_timeout = \(limit * 2); \
      SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3; \
      SET tcp_user_timeout = 25000; \
      SELECT concat_ws(' ', inet_server_addr(), inet_server_port(), extract(epoch FROM pg_postmaster_start_time()))
      """)
    made.server = server ?? ""
    connection = made
    return made
  }

  private func sleep(within longest: Duration) {
    guard longest > .zero else { return }
    usleep(UInt32.random(in: 1...UInt32(clamping: longest.wholeMilliseconds * 1_000)))
  }
}

extension Duration {
  fileprivate var wholeMilliseconds: Int64 {
    components.seconds * 1_000 + components.attoseconds / 1_000_000_000_000_000
  }
}
