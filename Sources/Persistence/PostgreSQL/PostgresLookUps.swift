import Concurrency
import Dispatch
import LinuxSystem
import Logging

/// One row by a unique key.
typealias PostgresLookUp = RowCache.Key

/// Answers look-ups, on a thread and a connection that serve nothing else.
///
/// One batch is on its way at a time, and whoever comes meanwhile is in the next one. Alone, a look-up waits for
/// nothing; under load the way to the thread, to the server and back, which costs more than the look-up itself, is
/// shared by all of a batch, and equal ones are one.
///
/// Rows are kept with the version of the database that they were read at. Each batch ends with the question for the
/// version (`PostgresMark`): what is kept is the answer where the version is still the same, also for whoever committed
/// since, and elsewhere the rows are asked for. So none is answered from a state older than its call: a batch begins
/// after all of its look-ups have.
final class PostgresLookUps: Sendable {
  private struct Waiting {
    /// Nil: only for the version.
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

  /// Different rows of a batch. What is sent for them is small enough for the socket's buffer, so that nobody waits for
  /// the server to read while it waits for us to.
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

  /// - Parameter version: one that is new enough.
  /// - Throws: `PersistenceError`: `unavailable` when too many wait already, or this one did for too long.
  func row(_ lookUp: PostgresLookUp, notBefore version: DatabaseVersion?) async throws -> Finding<SQLRow?> {
    if let version, let finding = kept(lookUp, notBefore: version) { return finding }
    return try await wait(for: lookUp)
  }

  /// - Throws: as `row`.
  func version() async throws -> DatabaseVersion? {
    try await wait(for: nil).version
  }

  /// Answers who waits, then closes the connection.
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

  /// Those who wait; waits for them. Nil when the database was closed and nobody is left.
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

  /// The first ones, as many as have no more than `maximumBatch` different look-ups.
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
    // Whoever came first has waited longest.
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

  /// Asks for the version, and for the rows that are not kept; for all of them where those that are would turn out to
  /// be old.
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

  /// - Returns: one result for each, and the version that the database has after them.
  /// - Throws: `PersistenceError` when the server does not say its version.
  private func ask(
    _ lookUps: Set<PostgresLookUp>, _ session: PostgresSession, _ start: ContinuousClock.Instant
  ) throws -> (Results, DatabaseVersion?) {
    do {
      let (rows, version) = try askTogether(Array(lookUps), session, start)
      return (rows.mapValues { .success($0) }, version)
    } catch let error as PersistenceError where error.isUnavailable {
      // Asking a server that does not answer for each of them would take as long again for each.
      throw error
    } catch {
      guard !lookUps.isEmpty else { throw error }
      // One of them is at fault; each by itself has its own error.
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
        // The question before these rows and the one after them had the same answer, and so would have one at their
        // moment.
        for case (let lookUp, let row?) in rows { state.kept.keep(row, lookUp) }
      } else {
        state.kept.advance()
      }
      return (rows, mark == nil ? nil : state.kept.version)
    }
  }
}

/// Whether the database changes so often that what is kept is rarely of use.
struct PostgresTurnover {
  /// A bit for each of the last questions: whether something was committed since the one before.
  private var changes: UInt16 = 0

  var isHigh: Bool { changes.nonzeroBitCount >= 8 }

  mutating func note(isSame: Bool) {
    changes = changes << 1 | (isSame ? 0 : 1)
  }
}
