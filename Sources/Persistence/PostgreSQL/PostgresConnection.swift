import CPostgres
import Glibc
import Logging

/// A connection to a PostgreSQL server, used by one thread at a time. Every wait for a response ends at `deadline`.
final class PostgresConnection {
  /// PostgreSQL 13 is the first version with `pg_current_snapshot`.
  /// Source: https://www.postgresql.org/docs/current/libpq-status.html#LIBPQ-PQSERVERVERSION
  private static let oldestServer: Int32 = 130_000

  /// Whether the connection can no longer be used. After a response time-out it cannot: a late response would be taken
  /// for the response to the next call.
  private(set) var isBroken = false
  /// The newest failure since `begin`, even if the caller discarded the error that reported it.
  private(set) var failure: PostgresFailure?
  /// Advisory locks that `PostgresLeaderLock` holds on this connection; they end with it.
  var heldLocks: PostgresLeaderLock.HeldLocks?
  /// The database state that the newest `PostgresStateToken.query` on this connection returned.
  var stateToken: PostgresStateToken?
  /// Identifies the server process and its start time; set by the session.
  var server = ""

  let handle: OpaquePointer
  private let notices: PostgresNotices
  private var statements = PostgresStatements()
  private var deadline = ContinuousClock.now

  /// Connects. Blocks for up to `connect_timeout` per address of the server.
  init(_ configuration: PostgresConfiguration, logger: Logger) throws(PostgresFailure) {
    let parameters = configuration.parameters
    let handle = Self.withCStrings(parameters.map(\.keyword)) { keywords in
      Self.withCStrings(parameters.map(\.value)) { values in PQconnectdbParams(keywords, values, 1) }
    }
    guard let handle else { throw PostgresFailure(kind: .notConnected, text: "out of memory") }
    guard PQstatus(handle) == CONNECTION_OK else {
      let text = String(cString: PQerrorMessage(handle)).split(whereSeparator: \.isWhitespace).joined(separator: " ")
      PQfinish(handle)
      throw PostgresFailure(kind: .notConnected, text: text)
    }
    guard PQserverVersion(handle) >= Self.oldestServer else {
      PQfinish(handle)
      throw PostgresFailure(kind: .notConnected, text: "the server is older than PostgreSQL 13")
    }
    self.handle = handle
    notices = PostgresNotices(logger: logger)
    notices.receive(from: handle)
  }

  deinit { PQfinish(handle) }

  /// Whether the connection is usable and outside of a transaction, the only state in which the next call may begin.
  var isIdle: Bool { !isBroken && PQtransactionStatus(handle) == PQTRANS_IDLE }

  /// Starts a call: sets its deadline and clears `failure`.
  func begin(until deadline: ContinuousClock.Instant) {
    self.deadline = deadline
    failure = nil
  }

  /// Runs one or more statements without parameters, separated by semicolons.
  /// - Returns: the command tag of the last statement, such as `COMMIT`.
  @discardableResult
  func command(_ sql: String) throws(PostgresFailure) -> String {
    try call { PQsendQuery(handle, sql) }.command
  }

  /// Runs one or more statements without parameters.
  /// - Returns: the first column of the first row of the last statement.
  func text(_ sql: String) throws(PostgresFailure) -> String? {
    try call { PQsendQuery(handle, sql) }.text
  }

  func forgetStatements() throws(PostgresFailure) {
    try command("DEALLOCATE ALL")
    statements.removeAll()
  }

  /// - Throws: `PostgresFailure`, `PersistenceError`.
  func execute(_ sql: String, _ parameters: [SQLValue]) throws -> PostgresResult {
    let statement = try prepared(sql)
    let encoded = try PostgresParameters(parameters, types: statement.parameterTypes)
    return try call {
      encoded.withPointers { count, values, lengths, formats in
        PQsendQueryPrepared(handle, statement.name, count, values, lengths, formats, 1)
      }
    }
  }

  func prepared(_ sql: String) throws(PostgresFailure) -> PostgresStatement {
    if let statement = statements[sql] { return statement }
    if statements.isFull { try forgetStatements() }
    let name = statements.nextName()
    _ = try call { PQsendPrepare(handle, name, PostgresStatements.numbered(sql), 0, nil) }
    let types = try call { PQsendDescribePrepared(handle, name) }.parameterTypes
    let statement = PostgresStatement(name: name, parameterTypes: types)
    statements.keep(statement, for: sql)
    return statement
  }

  /// Sends a command and waits for its complete response.
  private func call(_ send: () -> Int32) throws(PostgresFailure) -> PostgresResult {
    do throws(PostgresFailure) {
      guard !isBroken, send() == 1 else { throw connectionLost("the connection broke") }
      let result = try receiveLastResult()
      if let failure = result.failure { throw failure }
      return result
    } catch {
      record(error)
      throw error
    }
  }

  /// Runs `work` and records in `failure` the `PostgresFailure` that it throws.
  func recordingFailure<Value>(_ work: () throws -> Value) throws -> Value {
    do {
      return try work()
    } catch let failure as PostgresFailure {
      record(failure)
      throw failure
    }
  }

  private func record(_ failure: PostgresFailure) {
    self.failure = failure
    if failure.kind == .connectionLost || PQstatus(handle) != CONNECTION_OK { isBroken = true }
  }

  private func receiveLastResult() throws(PostgresFailure) -> PostgresResult {
    var last: PostgresResult?
    while let result = try awaitResult() {
      let isCopy = result.isCopy
      last = consume result
      // libpq keeps returning COPY results until the copy ends; no statement here starts one.
      guard !isCopy else { throw connectionLost("unexpected COPY") }
    }
    guard let last else { throw connectionLost("the connection broke") }
    return last
  }

  /// Waits for the next result; nil after the last result of a statement.
  func awaitResult() throws(PostgresFailure) -> PostgresResult? {
    while PQisBusy(handle) == 1 { try awaitInput() }
    return PQgetResult(handle).map { PostgresResult($0) }
  }

  private func awaitInput() throws(PostgresFailure) {
    let remaining = deadline - .now
    guard remaining > .zero else { throw connectionLost("the server did not respond in time") }
    let milliseconds = Int32(
      clamping: remaining.components.seconds * 1_000 + 1 + remaining.components.attoseconds / 1_000_000_000_000_000)
    var descriptor = pollfd(fd: PQsocket(handle), events: Int16(POLLIN), revents: 0)
    let ready = poll(&descriptor, 1, milliseconds)
    if ready < 0, errno != EINTR { throw connectionLost("poll: errno \(errno)") }
    guard ready > 0 else { return }
    guard PQconsumeInput(handle) == 1 else { throw connectionLost("the connection broke") }
  }

  func connectionLost(_ text: String) -> PostgresFailure {
    PostgresFailure(kind: .connectionLost, text: text)
  }

  /// A NULL-terminated array of C strings, valid during `body`.
  private static func withCStrings<Result>(
    _ strings: [String], _ body: (UnsafePointer<UnsafePointer<CChar>?>) -> Result
  ) -> Result {
    let copies = strings.map { strdup($0) }
    defer { for copy in copies { free(copy) } }
    return body(copies.map { UnsafePointer($0) } + [nil])
  }
}

extension PostgresConnection: SQLConnection {
  var dialect: SQLDialect { .postgresql }

  func rows(_ sql: String, _ parameters: [SQLValue]) throws -> [SQLRow] {
    try translating { try execute(sql, parameters).rows() }
  }

  func execute(_ sql: String, _ parameters: [SQLValue]) throws -> Int {
    try translating { try execute(sql, parameters).changedRows }
  }

  func executeScript(_ sql: String) throws {
    try translating { _ = try command(sql) }
  }

  func translating<Value>(_ work: () throws -> Value) throws -> Value {
    do {
      return try work()
    } catch let failure as PostgresFailure {
      throw failure.persistenceError
    }
  }
}
