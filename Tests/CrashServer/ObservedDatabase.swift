import Persistence

/// A database that reports when the state of a sandbox or snapshot is about to be committed, and when it has been:
/// `row-paused-before`, `row-paused-after`, `snapshot-available-after` …
struct ObservedDatabase: Database {
  let real: any Database
  let reached: @Sendable (String) -> Void

  var dialect: SQLDialect { real.dialect }
  var worker: WorkerID { real.worker }

  func version() async throws -> DatabaseVersion? { try await real.version() }

  func find(
    _ sql: String, _ parameters: [SQLValue], notBefore version: DatabaseVersion?
  ) async throws -> LookUpResult<SQLRow?> {
    try await real.find(sql, parameters, notBefore: version)
  }

  func query<Value: Sendable>(_ body: @escaping @Sendable (any SQLConnection) throws -> Value) async throws -> Value {
    try await real.query(body)
  }

  func read<Value: Sendable>(_ body: @escaping @Sendable (any SQLConnection) throws -> Value) async throws -> Value {
    try await real.read(body)
  }

  func write<Value: Sendable>(_ body: @escaping @Sendable (any SQLConnection) throws -> Value) async throws -> Value {
    let (value, names) = try await real.write { connection in
      let observed = ObservedConnection(real: connection)
      let value = try body(observed)
      for name in observed.names { reached("\(name)-before") }
      return (value, observed.names)
    }
    for name in names { reached("\(name)-after") }
    return value
  }

  func migrate<Value: Sendable>(_ body: @escaping @Sendable (any SQLConnection) throws -> Value) async throws -> Value {
    try await real.migrate(body)
  }

  func makeLeaderLock() -> any LeaderLock { real.makeLeaderLock() }

  func close() async throws { try await real.close() }
}

/// Records the states that one transaction writes.
private final class ObservedConnection: SQLConnection {
  private let real: any SQLConnection
  private(set) var names: [String] = []

  init(real: any SQLConnection) {
    self.real = real
  }

  var dialect: SQLDialect { real.dialect }

  func rows(_ sql: String, _ parameters: [SQLValue]) throws -> [SQLRow] { try real.rows(sql, parameters) }

  func execute(_ sql: String, _ parameters: [SQLValue]) throws -> Int {
    let changed = try real.execute(sql, parameters)
    if changed > 0, let name = Self.name(sql, parameters) { names.append(name) }
    return changed
  }

  func executeScript(_ sql: String) throws { try real.executeScript(sql) }

  /// The first text parameter of an update is the state.
  private static func name(_ sql: String, _ parameters: [SQLValue]) -> String? {
    if sql.hasPrefix("INSERT INTO sandboxes ") { return "row-created" }
    if sql.hasPrefix("INSERT INTO snapshots ") { return "snapshot-created" }
    if sql.hasPrefix("UPDATE sandboxes SET status = ") { return state(parameters).map { "row-\($0)" } }
    if sql.hasPrefix("UPDATE snapshots SET status = ") { return state(parameters).map { "snapshot-\($0)" } }
    return sql.hasPrefix("DELETE FROM snapshots ") ? "snapshot-deleted" : nil
  }

  private static func state(_ parameters: [SQLValue]) -> String? {
    guard case .text(let state) = parameters.first else { return nil }
    return state
  }
}
