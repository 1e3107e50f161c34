import Synchronization

/// One row by a unique key.
struct PostgresLookUp: Sendable {
  let sql: String
  let parameters: [SQLValue]
}

/// Sends look-ups that wait at the same time to the server together.
///
/// One batch is on its way at a time, and whoever comes meanwhile is in the next one. Alone, a look-up waits for nothing; under load the
/// way to a thread, to the server and back, which costs more than the look-up itself, is shared by all of a batch. None is answered from
/// a state older than its call: a batch begins after all of its look-ups have.
final class PostgresLookUps: Sendable {
  private struct Waiting {
    let lookUp: PostgresLookUp
    let start: ContinuousClock.Instant
    let answer: CheckedContinuation<SQLRow?, any Error>
  }

  private struct State {
    var waiting: [Waiting] = []
    var isUnderWay = false
  }

  /// What is sent is small enough for the socket's buffer, so that nobody waits for the server to read while it waits for us to.
  static let maximumBatch = 32

  private let pool: PostgresPool
  private let maximumWaiting: Int
  private let patience: Duration
  private let state = Mutex(State())

  init(pool: PostgresPool, _ configuration: PostgresConfiguration) {
    self.pool = pool
    maximumWaiting = configuration.maximumWaiting
    patience = configuration.patience
  }

  /// - Throws: `PersistenceError`: `unavailable` when too many wait already, or this one did for too long.
  func row(_ lookUp: PostgresLookUp) async throws -> SQLRow? {
    try await withCheckedThrowingContinuation { answer in
      let waiting = Waiting(lookUp: lookUp, start: .now, answer: answer)
      let place = state.withLock { enter(waiting, &$0) }
      switch place {
      case .first: Task { await answerAll() }
      case .behind: break
      case .refused: answer.resume(throwing: PersistenceError.unavailable("too many calls wait"))
      }
    }
  }

  private enum Place { case first, behind, refused }

  private func enter(_ waiting: Waiting, _ state: inout State) -> Place {
    guard state.waiting.count < maximumWaiting else { return .refused }
    state.waiting.append(waiting)
    defer { state.isUnderWay = true }
    return state.isUnderWay ? .behind : .first
  }

  private func answerAll() async {
    while let all = next() {
      let limit = ContinuousClock.now - patience
      for waiting in all where waiting.start < limit {
        waiting.answer.resume(throwing: PersistenceError.unavailable("all connections are busy"))
      }
      let batch = all.filter { $0.start >= limit }
      // Whoever came first has waited longest.
      guard let start = batch.first?.start else { continue }
      let lookUps = batch.map(\.lookUp)
      do {
        let limit = start + patience
        let answers = try await pool.run { session, _ in Self.answers(lookUps, session, start, until: limit) }
        for (waiting, answer) in zip(batch, answers) { waiting.answer.resume(with: answer) }
      } catch {
        for waiting in batch { waiting.answer.resume(throwing: error) }
      }
    }
  }

  private func next() -> [Waiting]? {
    state.withLock { state in
      guard !state.waiting.isEmpty else {
        state.isUnderWay = false
        return nil
      }
      defer { state.waiting.removeFirst(min(Self.maximumBatch, state.waiting.count)) }
      return Array(state.waiting.prefix(Self.maximumBatch))
    }
  }

  /// One for each. When one of the batch is at fault each is asked for by itself, and has its own error; when the server does not answer,
  /// asking it for each would take as long again for each.
  private static func answers(
    _ lookUps: [PostgresLookUp], _ session: PostgresSession, _ start: ContinuousClock.Instant, until limit: ContinuousClock.Instant
  ) -> [Result<SQLRow?, any Error>] {
    if lookUps.count > 1 {
      do {
        return try session.run(.query, since: start) { try $0.rows(lookUps) }.map { .success($0) }
      } catch let error as PersistenceError where error.isUnavailable {
        return lookUps.map { _ in .failure(error) }
      } catch {
        // Each has its turn below.
      }
    }
    return lookUps.map { lookUp in
      Result {
        guard ContinuousClock.now < limit else { throw PersistenceError.unavailable("the server takes too long") }
        return try session.run(.query, since: start) { try $0.row(lookUp.sql, lookUp.parameters) }
      }
    }
  }
}
