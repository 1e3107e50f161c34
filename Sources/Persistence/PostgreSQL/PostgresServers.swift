import Concurrency

/// Detects that the connections of this program lead to different servers, after a failover or with several hosts in
/// the URL. A state token of one server says nothing about another.
final class PostgresServers: Sendable {
  private struct State {
    var current: String?
    var changes = 0
  }

  private let state = Mutex(State())

  /// How often a call used another server than the call before it.
  var changes: Int { state.withLock { $0.changes } }

  /// Must be called before each call.
  /// - Parameter identity: identifies the server and its start time.
  func willUse(_ identity: String) {
    state.withLock { state in
      guard state.current != identity else { return }
      state.current = identity
      state.changes += 1
    }
  }
}
