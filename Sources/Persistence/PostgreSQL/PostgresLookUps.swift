import Concurrency
import Dispatch
import LinuxSystem
import Logging

/// A query for one row by a unique key.
typealias PostgresLookUp = RowCache.Key

/// Runs look-ups on a dedicated thread and connection, in batches.
///
/// One batch is under way at a time; look-ups that arrive meanwhile form the next batch. A single look-up does not wait
/// for others. Under load a batch shares the cost of the thread switch and the round trip, which exceed the cost of a
/// look-up, and equal look-ups of a batch run once.
///
/// Found rows are cached together with the database version at which they were read. Each batch ends with a query for
/// the state of the database (`PostgresStateToken`). If the version is unchanged, also with respect to commits of other
/// programs, the cached rows are returned; otherwise the rows are read again. No result is therefore older than its
/// call: a batch begins after all of its look-ups have been called.
final class PostgresLookUps: Sendable {
  private struct Waiting {
    /// Nil if the caller needs only the version.
    let lookUp: PostgresLookUp?
    let start: ContinuousClock.Instant
    let answer: CheckedContinuation<Finding<SQLRow?>, any Error>
  }

  private struct State {
    var waiting: [Waiting] = []
    var kept = RowCache()
    var turnover = PostgresTurnover()
    var hasThread = false
    var isAsleep = false
    var isClosed = false
    var closers: [CheckedContinuation<Void, Never>] = []
  }

  typealias Results = [PostgresLookUp: Result<SQLRow?, any Error>]

  /// Upper bound on different rows in a batch. The requests of a batch fit into the socket's buffer, so client and
  /// server cannot block each other while both write.
  static let maximumBatch = 32

  private let configuration: PostgresConfiguration
  private let logger: Logger
  private let servers: PostgresServers
  private let wakeUp = DispatchSemaphore(value: 0)
  private let state = Mutex(State())

  init(_ configuration: PostgresConfiguration, servers: PostgresServers, logger: Logger) {
    self.configuration = configuration
    self.logger = logger
    self.servers = servers
  }

  /// - Parameter version: the oldest version of which a cached row is acceptable; nil reads from the server.
  /// - Throws: `PersistenceError.unavailable` when too many look-ups wait or this one waited for too long.
  func row(_ lookUp: PostgresLookUp, notBefore version: DatabaseVersion?) async throws -> Finding<SQLRow?> {
    if let version, let finding = kept(lookUp, notBefore: version) { return finding }
    return try await wait(for: lookUp)
  }

  /// - Throws: as `row`.
  func version() async throws -> DatabaseVersion? {
    try await wait(for: nil).version
  }

  /// Completes the waiting look-ups, then closes the connection.
  func close() async {
    await withCheckedContinuation { continuation in
      let (isOver, wakesUp) = state.withLock { state in
        state.isClosed = true
        if state.hasThread { state.closers.append(continuation) }
        defer { state.isAsleep = false }
        return (!state.hasThread, state.isAsleep)
      }
      if wakesUp { wakeUp.signal() }
      if isOver { continuation.resume() }
    }
  }

  private func kept(_ lookUp: PostgresLookUp, notBefore version: DatabaseVersion) -> Finding<SQLRow?>? {
    state.withLock { state in
      guard state.kept.version >= version, let row = state.kept[lookUp] else { return nil }
      return Finding(row, version: state.kept.version)
    }
  }

  // MARK: Waiting

  private enum Place { case behind, wakingUp, newThread, refused(PersistenceError) }

  private func wait(for lookUp: PostgresLookUp?) async throws -> Finding<SQLRow?> {
    try await withCheckedThrowingContinuation { answer in
      let waiting = Waiting(lookUp: lookUp, start: .now, answer: answer)
      switch state.withLock({ enter(waiting, &$0) }) {
      case .behind: break
      case .wakingUp: wakeUp.signal()
      case .newThread: Threads.start(name: "postgres-rows") { self.serve() }
      case .refused(let error): answer.resume(throwing: error)
      }
    }
  }

  private func enter(_ waiting: Waiting, _ state: inout State) -> Place {
    guard !state.isClosed else { return .refused(.failed("the database is closed")) }
    guard state.waiting.count < configuration.maximumWaiting else {
      return .refused(.unavailable("too many calls wait"))
    }
    state.waiting.append(waiting)
    defer {
      state.isAsleep = false
      state.hasThread = true
    }
    guard state.hasThread else { return .newThread }
    return state.isAsleep ? .wakingUp : .behind
  }

  // MARK: The thread

  private func serve() {
    let session = PostgresSession(configuration, servers: servers, logger: logger)
    while let batch = next() { answer(batch, session) }
    session.disconnect()
    let closers = state.withLock { state in
      state.hasThread = false
      defer { state.closers = [] }
      return state.closers
    }
    for closer in closers { closer.resume() }
  }

  /// Waits for look-ups and returns the next batch; nil when the database is closed and no look-up waits.
  private func next() -> [Waiting]? {
    while true {
      let (batch, isOver) = state.withLock { state -> ([Waiting], Bool) in
        guard state.waiting.isEmpty else { return (Self.batch(&state.waiting), false) }
        state.isAsleep = !state.isClosed
        return ([], state.isClosed)
      }
      if isOver { return nil }
      if !batch.isEmpty { return batch }
      wakeUp.wait()
    }
  }

  /// Removes and returns the first look-ups, as many as contain at most `maximumBatch` different ones.
  private static func batch(_ waiting: inout [Waiting]) -> [Waiting] {
    var lookUps: Set<PostgresLookUp> = []
    var count = 0
    for next in waiting {
      if let lookUp = next.lookUp {
        guard lookUps.count < maximumBatch || lookUps.contains(lookUp) else { break }
        lookUps.insert(lookUp)
      }
      count += 1
    }
    defer { waiting.removeFirst(count) }
    return Array(waiting.prefix(count))
  }

  private func answer(_ all: [Waiting], _ session: PostgresSession) {
    let limit = ContinuousClock.now - configuration.patience
    for waiting in all where waiting.start < limit {
      waiting.answer.resume(throwing: PersistenceError.unavailable("all connections are busy"))
    }
    let batch = all.filter { $0.start >= limit }
    // The first look-up of the batch has waited longest.
    guard let start = batch.first?.start else { return }
    do {
      let (results, version) = try answers(to: Set(batch.compactMap(\.lookUp)), session, start)
      for waiting in batch {
        waiting.answer.resume(with: Result { Finding(try Self.row(waiting.lookUp, results), version: version) })
      }
    } catch {
      for waiting in batch { waiting.answer.resume(throwing: error) }
    }
  }

  private static func row(_ lookUp: PostgresLookUp?, _ results: Results) throws -> SQLRow? {
    guard let lookUp else { return nil }
    guard let result = results[lookUp] else { throw PersistenceError.failed("a look-up without an answer") }
    return try result.get()
  }

  /// Queries the version, and the rows that are not cached. Reads the cached rows again if the version shows that they
  /// are out of date.
  private func answers(
    to lookUps: Set<PostgresLookUp>, _ session: PostgresSession, _ start: ContinuousClock.Instant
  ) throws -> (Results, DatabaseVersion?) {
    let (old, oldVersion) = state.withLock { state -> (Results, DatabaseVersion) in
      guard !state.turnover.isHigh else { return ([:], state.kept.version) }
      let rows = lookUps.compactMap { lookUp in state.kept[lookUp].map { (lookUp, $0) } }
      return (Dictionary(uniqueKeysWithValues: rows.map { ($0, .success($1)) }), state.kept.version)
    }
    let (new, version) = try ask(lookUps.subtracting(old.keys), session, start)
    if old.isEmpty || version == oldVersion { return (new.merging(old) { $1 }, version) }
    let (again, newest) = try ask(Set(old.keys), session, start)
    return (new.merging(again) { $1 }, newest)
  }

  /// - Returns: one result per look-up, and the database version after them.
  /// - Throws: `PersistenceError` when the server does not return its version.
  private func ask(
    _ lookUps: Set<PostgresLookUp>, _ session: PostgresSession, _ start: ContinuousClock.Instant
  ) throws -> (Results, DatabaseVersion?) {
    do {
      let (rows, version) = try askTogether(Array(lookUps), session, start)
      return (rows.mapValues { .success($0) }, version)
    } catch let error as PersistenceError where error.isUnavailable {
      // Repeating each look-up against an unresponsive server would take the full time-out each time.
      throw error
    } catch {
      guard !lookUps.isEmpty else { throw error }
      // One look-up of the batch is at fault: run each alone, so that each gets its own result or error.
      var (_, version) = try askTogether([], session, start)
      var results: Results = [:]
      for lookUp in lookUps {
        results[lookUp] = Result {
          let (rows, newest) = try askTogether([lookUp], session, start)
          version = newest
          return rows[lookUp] ?? nil
        }
      }
      return (results, version)
    }
  }

  private func askTogether(
    _ lookUps: [PostgresLookUp], _ session: PostgresSession, _ start: ContinuousClock.Instant
  ) throws -> (rows: [PostgresLookUp: SQLRow?], version: DatabaseVersion?) {
    let (answers, mark, isSame) = try session.run(.query, since: start) { connection in
      var answers = try connection.rows(lookUps + [PostgresMark.question])
      let mark = try PostgresMark(answers.removeLast(), moves: servers.moves)
      defer { connection.mark = mark }
      return (answers, mark, mark != nil && connection.mark == mark)
    }
    let rows = Dictionary(uniqueKeysWithValues: zip(lookUps, answers))
    return state.withLock { state in
      state.turnover.note(isSame: isSame)
      if isSame {
        // The state before these rows equals the state after them, so the rows were read in that state.
        for case (let lookUp, let row?) in rows { state.kept.keep(row, lookUp) }
      } else {
        state.kept.advance()
      }
      return (rows, mark == nil ? nil : state.kept.version)
    }
  }
}

/// Whether the database changes so often that cached rows are rarely usable.
struct PostgresTurnover {
  /// One bit per recent query of the database state: whether it had changed since the one before.
  private var changes: UInt16 = 0

  var isHigh: Bool { changes.nonzeroBitCount >= 8 }

  mutating func note(isSame: Bool) {
    changes = changes << 1 | (isSame ? 0 : 1)
  }
}
