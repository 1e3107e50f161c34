import Concurrency
import GRDB

/// Read-only connections for look-ups that run on the calling thread. Each connection serves one look-up at a time. A
/// look-up never waits for a connection: when none is idle, a new one is opened. Their number is bounded by the number
/// of threads of the cooperative pool.
final class SQLiteLookUps: Sendable {
  private struct State {
    var idle: [DatabaseQueue] = []
    var isClosed = false
  }

  private let path: String
  private let configuration: Configuration
  private let state = Mutex(State())

  /// - Parameter path: a database in WAL mode that another connection keeps open.
  init(path: String, configuration: Configuration) {
    self.path = path
    self.configuration = configuration
  }

  /// Blocks the calling thread.
  func use<Value>(_ body: (GRDB.Database) throws -> Value) throws -> Value {
    let connection = try take()
    defer { putBack(connection) }
    return try connection.unsafeRead(body)
  }

  /// Closes idle connections; connections in use are closed when they are returned. Later calls throw.
  func close() throws {
    let idle = state.withLock { state in
      state.isClosed = true
      defer { state.idle = [] }
      return state.idle
    }
    for connection in idle { try connection.close() }
  }

  private func take() throws -> DatabaseQueue {
    let idle = try state.withLock { state throws(PersistenceError) in
      guard !state.isClosed else { throw .failed("the database is closed") }
      return state.idle.popLast()
    }
    return try idle ?? DatabaseQueue(path: path, configuration: configuration)
  }

  private func putBack(_ connection: DatabaseQueue) {
    let isClosed = state.withLock { state in
      if !state.isClosed { state.idle.append(connection) }
      return state.isClosed
    }
    if isClosed { try? connection.close() }
  }
}
