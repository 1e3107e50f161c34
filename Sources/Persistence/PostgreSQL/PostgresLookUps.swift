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
  private struct Waiter {
    /// Nil if the caller needs only the version.
    let lookUp: PostgresLookUp?
    let start: ContinuousClock.Instant
    let continuation: CheckedContinuation<LookUpResult<SQLRow?>, any Error>
  }

  private struct State {
    var waiting: [Waiter] = []
    var cache = RowCache()
    var turnover = PostgresTurnover()
    var hasThread = false
    var isAsleep = false
    var isClosed = false
    var closeContinuations: [CheckedContinuation<Void, Never>] = []
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
  func row(_ lookUp: PostgresLookUp, notBefore version: DatabaseVersion?) async throws -> LookUpResult<SQLRow?> {
    if let version, let result = cachedRow(lookUp, notBefore: version) { return result }
    return try await wait(for: lookUp)
  }

  /// - Throws: as `row`.
  func version() async throws -> DatabaseVersion? {
    try await wait(for: nil).version
  }

  /// Completes the waiting look-ups, then closes the connection.
  func close() async {
    await withCheckedContinuation { continuation in
      let (isFinished, wakesThread) = state.withLock { state in
        state.isClosed = true
        if state.hasThread { state.closeContinuations.append(continuation) }
        defer { state.isAsleep = false }
        return (!state.hasThread, state.isAsleep)
      }
      if wakesThread { wakeUp.signal() }
      if isFinished { continuation.resume() }
    }
  }

  private func cachedRow(_ lookUp: PostgresLookUp, notBefore version: DatabaseVersion) -> LookUpResult<SQLRow?>? {
    state.withLock { state in
      guard state.cache.version >= version, let row = state.cache[lookUp] else { return nil }
      return LookUpResult(row, version: state.cache.version)
    }
  }

  // MARK: Waiting

  private enum EnqueueResult { case queued, wakeThread, startThread, rejected(PersistenceError) }

  private func wait(for lookUp: PostgresLookUp?) async throws -> LookUpResult<SQLRow?> {
    try await withCheckedThrowingContinuation { continuation in
      let waiter = Waiter(lookUp: lookUp, start: .now, continuation: continuation)
      switch state.withLock({ enqueue(waiter, &$0) }) {
      case .queued: break
      case .wakeThread: wakeUp.signal()
      case .startThread: Threads.start(name: "postgres-rows") { self.serve() }
      case .rejected(let error): continuation.resume(throwing: error)
      }
    }
  }

  private func enqueue(_ waiter: Waiter, _ state: inout State) -> EnqueueResult {
    guard !state.isClosed else { return .rejected(.failed("the database is closed")) }
    guard state.waiting.count < configuration.maximumWaiting else {
      return .rejected(.unavailable("too many calls wait for a connection"))
    }
    state.waiting.append(waiter)
    defer {
      state.isAsleep = false
      state.hasThread = true
    }
    guard state.hasThread else { return .startThread }
    return state.isAsleep ? .wakeThread : .queued
  }

  // MARK: The thread

  private func serve() {
    let session = PostgresSession(configuration, servers: servers, logger: logger)
    while let batch = next() { complete(batch, session) }
    session.disconnect()
    let closeContinuations = state.withLock { state in
      state.hasThread = false
      defer { state.closeContinuations = [] }
      return state.closeContinuations
    }
    for continuation in closeContinuations { continuation.resume() }
  }

  /// Waits for look-ups and returns the next batch; nil when the database is closed and no look-up waits.
  private func next() -> [Waiter]? {
    while true {
      let (batch, isFinished) = state.withLock { state -> ([Waiter], Bool) in
        guard state.waiting.isEmpty else { return (Self.batch(&state.waiting), false) }
        state.isAsleep = !state.isClosed
        return ([], state.isClosed)
      }
      if isFinished { return nil }
      if !batch.isEmpty { return batch }
      wakeUp.wait()
    }
  }

  /// Removes and returns the first look-ups, as many as contain at most `maximumBatch` different ones.
  private static func batch(_ waiting: inout [Waiter]) -> [Waiter] {
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

  private func complete(_ all: [Waiter], _ session: PostgresSession) {
    let limit = ContinuousClock.now - configuration.patience
    for waiter in all where waiter.start < limit {
      waiter.continuation.resume(throwing: PersistenceError.unavailable("all connections are busy"))
    }
    let batch = all.filter { $0.start >= limit }
    // The first look-up of the batch has waited longest.
    guard let start = batch.first?.start else { return }
    do {
      let (results, version) = try results(of: Set(batch.compactMap(\.lookUp)), session, start)
      for waiter in batch {
        waiter.continuation.resume(
          with: Result { LookUpResult(try Self.row(waiter.lookUp, results), version: version) })
      }
    } catch {
      for waiter in batch { waiter.continuation.resume(throwing: error) }
    }
  }

  private static func row(_ lookUp: PostgresLookUp?, _ results: Results) throws -> SQLRow? {
    guard let lookUp else { return nil }
    guard let result = results[lookUp] else { throw PersistenceError.failed("a look-up has no result") }
    return try result.get()
  }

  /// Queries the version, and the rows that are not cached. Reads the cached rows again if the version shows that they
  /// are out of date.
  private func results(
    of lookUps: Set<PostgresLookUp>, _ session: PostgresSession, _ start: ContinuousClock.Instant
  ) throws -> (Results, DatabaseVersion?) {
    let (cached, cachedVersion) = state.withLock { state -> (Results, DatabaseVersion) in
      guard !state.turnover.isHigh else { return ([:], state.cache.version) }
      let rows = lookUps.compactMap { lookUp in state.cache[lookUp].map { (lookUp, $0) } }
      return (Dictionary(uniqueKeysWithValues: rows.map { ($0, .success($1)) }), state.cache.version)
    }
    let (new, version) = try fetch(lookUps.subtracting(cached.keys), session, start)
    if cached.isEmpty || version == cachedVersion { return (new.merging(cached) { $1 }, version) }
    let (reread, newest) = try fetch(Set(cached.keys), session, start)
    return (new.merging(reread) { $1 }, newest)
  }

  /// - Returns: one result per look-up, and the database version after them.
  /// - Throws: `PersistenceError` when the server does not return its version.
  private func fetch(
    _ lookUps: Set<PostgresLookUp>, _ session: PostgresSession, _ start: ContinuousClock.Instant
  ) throws -> (Results, DatabaseVersion?) {
    do {
      let (rows, version) = try fetchBatch(Array(lookUps), session, start)
      return (rows.mapValues { .success($0) }, version)
    } catch let error as PersistenceError where error.isUnavailable {
      // Repeating each look-up against an unresponsive server would take the full time-out each time.
      throw error
    } catch {
      guard !lookUps.isEmpty else { throw error }
      // One look-up of the batch is at fault: run each alone, so that each gets its own result or error.
      var (_, version) = try fetchBatch([], session, start)
      var results: Results = [:]
      for lookUp in lookUps {
        results[lookUp] = Result {
          let (rows, newest) = try fetchBatch([lookUp], session, start)
          version = newest
          return rows[lookUp] ?? nil
        }
      }
      return (results, version)
    }
  }

  private func fetchBatch(
    _ lookUps: [PostgresLookUp], _ session: PostgresSession, _ start: ContinuousClock.Instant
  ) throws -> (rows: [PostgresLookUp: SQLRow?], version: DatabaseVersion?) {
    let (found, token, isUnchanged) = try session.run(.query, since: start) { connection in
      var found = try connection.rows(lookUps + [PostgresStateToken.query])
      let token = try PostgresStateToken(found.removeLast(), serverChanges: servers.changes)
      defer { connection.stateToken = token }
      return (found, token, token != nil && connection.stateToken == token)
    }
    let rows = Dictionary(uniqueKeysWithValues: zip(lookUps, found))
    return state.withLock { state in
      state.turnover.record(isUnchanged: isUnchanged)
      if isUnchanged {
        // The state before these rows equals the state after them, so the rows were read in that state.
        for case (let lookUp, let row?) in rows { state.cache.keep(row, lookUp) }
      } else {
        state.cache.advance()
      }
      return (rows, token == nil ? nil : state.cache.version)
    }
  }
}

/// Whether the database changes so often that cached rows are rarely usable.
struct PostgresTurnover {
  /// One bit per recent query of the database state: whether it had changed since the one before.
  private var changes: UInt16 = 0

  var isHigh: Bool { changes.nonzeroBitCount >= 8 }

  mutating func record(isUnchanged: Bool) {
    changes = changes << 1 | (isUnchanged ? 0 : 1)
  }
}
