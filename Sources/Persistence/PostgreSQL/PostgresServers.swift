import Concurrency

/// Notices when the connections of one program lead to several servers, one after the other or beside each other: after
/// a failover, or with several hosts in the URL. What was read from one says nothing about another.
final class PostgresServers: Sendable {
  private struct State {
    var current: String?
    var moves = 0
  }

  private let state = Mutex(State())

  /// How often a call went to another server than the one before it.
  var moves: Int { state.withLock { $0.moves } }

  /// To be said before each call.
  /// - Parameter identity: of the server, and of its start.
  func willUse(_ identity: String) {
    state.withLock { state in
      guard state.current != identity else { return }
      state.current = identity
      state.moves += 1
    }
  }
}
