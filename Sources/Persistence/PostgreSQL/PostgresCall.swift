/// The kinds of calls that `Database` offers.
enum PostgresCall: Sendable {
  case query
  case read
  case write
  case migrate

  /// The statement that opens the transaction; nil for a call without an explicit transaction.
  ///
  /// Writes are serializable: of two transactions that could not have run one after the other the server rejects one,
  /// which is then retried. Repositories can therefore rely on the same guarantee as on SQLite, which has one writer. A
  /// migration runs READ COMMITTED so that, once it has the migration lock, it sees what the previous migration
  /// committed.
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

/// Decides what follows a failed attempt of a call. A call whose commit may have succeeded is never retried.
struct PostgresRetryPolicy {
  enum Decision: Equatable {
    /// Retry after a random pause of at most this duration.
    case retry(within: Duration)
    case report
    /// The connection was lost while the commit was under way: the server may or may not have committed.
    case reportUnknownOutcome
  }

  static let maximumConflicts = 16
  private static let reconnectPause: Duration = .milliseconds(200)
  private static let longestConflictPause: Duration = .milliseconds(100)

  let call: PostgresCall
  /// After this moment the policy no longer reconnects.
  let reconnectDeadline: ContinuousClock.Instant
  private var conflicts = 0
  private var losses = 0
  private var staleStatements = 0

  init(_ call: PostgresCall, reconnectDeadline: ContinuousClock.Instant) {
    self.call = call
    self.reconnectDeadline = reconnectDeadline
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
      return .retry(within: min(.milliseconds(1 << min(conflicts, 10)), Self.longestConflictPause))
    case .staleStatement:
      staleStatements += 1
      return staleStatements == 1 ? .retry(within: .zero) : .report
    case .duplicate, .constraint, .unavailable, .other:
      return .report
    }
  }

  /// Retries the first time without a pause: most often only an idle connection was closed and the server is available.
  private mutating func reconnect(_ now: ContinuousClock.Instant) -> Decision {
    losses += 1
    guard now < reconnectDeadline else { return .report }
    return .retry(within: losses == 1 ? .zero : Self.reconnectPause)
  }
}
