import Concurrency
package import Persistence

/// A database that passes calls on and fails when a test demands it.
package final class FaultyDatabase: Database {
  package enum Operation: Sendable {
    /// A look-up, query or read.
    case reading
    case writing
  }

  package typealias Fault = @Sendable (Operation) -> PersistenceError?

  private let database: any Database
  private let fault = Mutex<Fault?>(nil)
  private let counts = Mutex((reading: 0, writing: 0))

  package init(_ database: any Database) {
    self.database = database
  }

  package var dialect: SQLDialect { database.dialect }
  package var worker: WorkerID { database.worker }
  package var reads: Int { counts.withLock { $0.reading } }
  package var writes: Int { counts.withLock { $0.writing } }

  /// - Parameter fault: called before each operation; returns the error to throw. Nil removes the fault.
  package func fail(_ fault: Fault?) {
    self.fault.withLock { $0 = fault }
  }

  package func version() async throws -> DatabaseVersion? {
    try check(.reading)
    return try await database.version()
  }

  package func find(
    _ sql: String, _ parameters: [SQLValue], notBefore version: DatabaseVersion?
  ) async throws -> LookUpResult<SQLRow?> {
    try check(.reading)
    return try await database.find(sql, parameters, notBefore: version)
  }

  package func query<Value: Sendable>(
    _ body: @escaping @Sendable (any SQLConnection) throws -> Value
  ) async throws -> Value {
    try check(.reading)
    return try await database.query(body)
  }

  package func read<Value: Sendable>(
    _ body: @escaping @Sendable (any SQLConnection) throws -> Value
  ) async throws -> Value {
    try check(.reading)
    return try await database.read(body)
  }

  package func write<Value: Sendable>(
    _ body: @escaping @Sendable (any SQLConnection) throws -> Value
  ) async throws -> Value {
    try check(.writing)
    return try await database.write(body)
  }

  package func migrate<Value: Sendable>(
    _ body: @escaping @Sendable (any SQLConnection) throws -> Value
  ) async throws -> Value {
    try await database.migrate(body)
  }

  package func makeLeaderLock() -> any LeaderLock { database.makeLeaderLock() }
  package func close() async throws { try await database.close() }

  private func check(_ operation: Operation) throws {
    counts.withLock { counts in
      switch operation {
      case .reading: counts.reading += 1
      case .writing: counts.writing += 1
      }
    }
    if let error = fault.withLock({ $0 })?(operation) { throw error }
  }
}
