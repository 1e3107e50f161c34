/// The ways in which `Database` runs statements.
enum PostgresCall: Sendable {
  case query
  case read
  case write
  case migrate

  /// What opens the transaction; nil for none.
  ///
  /// Writes are serializable: the server refuses one of two transactions that could not have run one after the other,
  /// and it is run again. Repositories can rely on the same as on SQLite, which has one writer. A migration sees what
  /// the one before it committed while it waited for the lock.
  var opening: String? {
    switch self {
    case .query: nil
    case .read: "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
    case .write: "BEGIN ISOLATION LEVEL SERIALIZABLE READ WRITE"
    case .migrate: "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE"
    }
  }

  var changesData: Bool {
    switch self {
    case .query, .read: false
    case .write, .migrate: true
    }
  }
}

/// Decides what follows a failed attempt of a call. Nothing that may have been committed is ever tried again.
struct PostgresRetryPolicy {
  enum Decision: Equatable {
    /// Again, after a random time up to this.
    case again(within: Duration)
    case report
    /// The failure struck while the commit was on its way.
    case reportUnknownOutcome
  }

  static let maximumConflicts = 16
  private static let reconnectPause: Duration = .milliseconds(200)
  private static let longestConflictPause: Duration = .milliseconds(100)

  let call: PostgresCall
  /// No reconnecting after this.
  let giveUpAt: ContinuousClock.Instant
  private var conflicts = 0
  private var losses = 0
  private var staleStatements = 0

  init(_ call: PostgresCall, giveUpAt: ContinuousClock.Instant) {
    self.call = call
    self.giveUpAt = giveUpAt
  }

  mutating func decide(_ failure: PostgresFailure, isCommitting: Bool, now: ContinuousClock.Instant) -> Decision {
    switch failure.kind {
    case .connectionLost:
      guard !isCommitting else { return .reportUnknownOutcome }
      return reconnect(now)
    case .notConnected:
      return reconnect(now)
    case .readOnly:
      return call.changesData ? reconnect(now) : .report
    case .conflict:
      conflicts += 1
      guard conflicts <= Self.maximumConflicts else { return .report }
      return .again(within: min(.milliseconds(1 << min(conflicts, 10)), Self.longestConflictPause))
    case .staleStatement:
      staleStatements += 1
      return staleStatements == 1 ? .again(within: .zero) : .report
    case .duplicate, .constraint, .unavailable, .other:
      return .report
    }
  }

  /// The first time at once: most often an idle connection was closed, and the server is there.
  private mutating func reconnect(_ now: ContinuousClock.Instant) -> Decision {
    losses += 1
    guard now < giveUpAt else { return .report }
    return .again(within: losses == 1 ? .zero : Self.reconnectPause)
  }
}
