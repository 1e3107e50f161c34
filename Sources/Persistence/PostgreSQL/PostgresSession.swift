import Glibc
import Logging

/// One thread's connection, made when it is needed and again after it broke, and the calls that run on it.
final class PostgresSession {
  /// How much longer than the server we wait before a silent connection is given up.
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

  /// Runs a call to its end, with as many attempts as `PostgresRetryPolicy` allows.
  /// - Parameter start: when the caller began to wait.
  func run<Value>(
    _ call: PostgresCall, since start: ContinuousClock.Instant, _ body: (PostgresConnection) throws -> Value
  ) throws -> Value {
    var policy = PostgresRetryPolicy(call, giveUpAt: start + configuration.patience)
    while true {
      switch attempt(call, body) {
      case .success(let value):
        return value
      case .failure(let stop):
        guard let failure = stop.failure else { throw stop.error }
        switch policy.decide(failure, isCommitting: stop.isCommitting, now: .now) {
        case .again(let pause): sleep(within: pause)
        case .report: throw stop.error
        case .reportUnknownOutcome: throw PersistenceError.outcomeUnknown(failure.text)
        }
      }
    }
  }

  /// Runs `body` on the connection, once and outside any transaction; for what belongs to the session.
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

  /// Gives up the connection, and with it all locks.
  func disconnect() {
    connection = nil
  }

  // MARK: One attempt

  private struct Stop: Error {
    /// What the caller gets to see.
    var error: any Error
    /// What the database said; nil when `body` threw for a reason of its own.
    var failure: PostgresFailure?
    var isCommitting = false
  }

  private func attempt<Value>(_ call: PostgresCall, _ body: (PostgresConnection) throws -> Value) -> Result<Value, Stop>
  {
    let connection: PostgresConnection
    do {
      connection = try connected()
    } catch {
      return .failure(Stop(error: error.persistenceError, failure: error))
    }
    servers.willUse(connection.server)
    var isCommitting = false
    connection.begin(
      until: .now + (call == .migrate ? configuration.migrationTimeout : configuration.statementTimeout) + Self.margin)
    defer { clean(connection, after: call) }
    do {
      if call == .migrate { try prepareMigration(connection) }
      guard let opening = call.opening else { return .success(try body(connection)) }
      try connection.command(opening)
      let value = try body(connection)
      isCommitting = true
      try commit(connection)
      return .success(value)
    } catch {
      let shown = (error as? PostgresFailure)?.persistenceError ?? error
      return .failure(
        Stop(error: shown, failure: connection.failure, isCommitting: isCommitting && connection.isBroken))
    }
  }

  private func commit(_ connection: PostgresConnection) throws {
    // After a failed statement, which `body` may have taken no notice of, the server answers COMMIT with ROLLBACK.
    guard try connection.command("COMMIT") == "COMMIT" else {
      throw connection.failure?.persistenceError ?? PersistenceError.failed("the transaction was rolled back")
    }
  }

  /// Waiting for another program's migration is part of the time.
  private func prepareMigration(_ connection: PostgresConnection) throws {
    let limit = configuration.migrationTimeout.wholeMilliseconds
    try connection.command("SET statement_timeout = \(limit); SET lock_timeout = \(limit)")
    _ = try connection.row("SELECT pg_advisory_lock(?, ?)", PostgresLock.migrations.keys)
  }

  /// Leaves a connection that the next call can use, or none.
  private func clean(_ connection: PostgresConnection, after call: PostgresCall) {
    // The connection of a migration has a lock and a time-out of its own, and knows statements for the schema before
    // it.
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

  // MARK: Connecting

  private func connected() throws(PostgresFailure) -> PostgresConnection {
    if let connection { return connection }
    let made = try PostgresConnection(configuration, logger: logger)
    made.begin(until: .now + Self.margin)
    let limit = configuration.statementTimeout.wholeMilliseconds
    // Only transactions that say so may write, as on SQLite, whose readers cannot. The server asks over TCP whether we
    // are still there: it frees the locks of a machine that vanished, the leadership's too, after half a minute instead
    // of two hours.
    let server = try made.text(
      """
      SET default_transaction_read_only = on; SET statement_timeout = \(limit); SET lock_timeout = \(limit); \
      SET idle_in_transaction_session_timeout = \(limit * 2); \
      SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3; SET tcp_user_timeout = 25000; \
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
