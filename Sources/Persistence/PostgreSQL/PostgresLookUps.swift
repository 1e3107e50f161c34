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
    let answer: CheckedContinuation<SQLRow?, any Error>
  }

  private struct State {
    var waiting: [Waiting] = []
    var isUnderWay = false
  }

  /// What is sent is small enough for the socket's buffer, so that nobody waits for the server to read while it waits for us to.
  static let maximumBatch = 32

  private let pool: PostgresPool
  private let state = Mutex(State())

  init(pool: PostgresPool) {
    self.pool = pool
  }

  func row(_ lookUp: PostgresLookUp) async throws -> SQLRow? {
    try await withCheckedThrowingContinuation { answer in
      let isFirst = state.withLock { state in
        state.waiting.append(Waiting(lookUp: lookUp, answer: answer))
        defer { state.isUnderWay = true }
        return !state.isUnderWay
      }
      if isFirst { Task { await answerAll() } }
    }
  }

  private func answerAll() async {
    while let batch = next() {
      let lookUps = batch.map(\.lookUp)
      do {
        let answers = try await pool.run { session, start in Self.answers(lookUps, session, start) }
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

  /// One for each. When the batch fails each is asked for by itself, and has its own error.
  private static func answers(
    _ lookUps: [PostgresLookUp], _ session: PostgresSession, _ start: ContinuousClock.Instant
  ) -> [Result<SQLRow?, any Error>] {
    if lookUps.count > 1, let rows = try? session.run(.query, since: start, { try $0.rows(lookUps) }) {
      return rows.map { .success($0) }
    }
    return lookUps.map { lookUp in
      Result { try session.run(.query, since: start) { try $0.row(lookUp.sql, lookUp.parameters) } }
    }
  }
}
