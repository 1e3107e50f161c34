import Concurrency
import Dispatch
import LinuxSystem
import Logging

/// Threads that own one connection each. A call goes to the thread that became idle last, so that a small load uses few
/// connections.
final class PostgresPool: Sendable {
  /// Work for a thread, with the time at which it was submitted.
  private struct Job: Sendable {
    let start: ContinuousClock.Instant
    let perform: @Sendable (PostgresSession, ContinuousClock.Instant) -> Void
  }

  /// A thread that waits for work. When it wakes without a job, it checks whether the pool was closed.
  private final class Idler: Sendable {
    let semaphore = DispatchSemaphore(value: 0)
    let job = Mutex<Job?>(nil)
  }

  private struct State {
    var waiting: [Job] = []
    var head = 0
    var idlers: [Idler] = []
    var threads = 0
    var isClosed = false
    var closers: [CheckedContinuation<Void, Never>] = []
  }

  private enum Placement {
    case given(Idler)
    case newThread
    case queued
    case refused(PersistenceError)
  }

  private let configuration: PostgresConfiguration
  private let servers: PostgresServers
  private let logger: Logger
  private let state = Mutex(State())

  init(_ configuration: PostgresConfiguration, servers: PostgresServers, logger: Logger) {
    self.configuration = configuration
    self.servers = servers
    self.logger = logger
  }

  /// Runs `body` on a thread that may block. Cancelling the caller does not stop `body`.
  func run<Value: Sendable>(
    _ body: @escaping @Sendable (PostgresSession, _ start: ContinuousClock.Instant) throws -> Value
  ) async throws -> Value {
    let patience = configuration.patience
    return try await withCheckedThrowingContinuation { continuation in
      let job = Job(start: .now) { session, start in
        continuation.resume(
          with: Result {
            guard ContinuousClock.now < start + patience else {
              throw PersistenceError.unavailable("all connections are busy")
            }
            return try body(session, start)
          })
      }
      if let refusal = submit(job) { continuation.resume(throwing: refusal) }
    }
  }

  /// Waits for work in progress, then closes all connections.
  func close() async {
    await withCheckedContinuation { continuation in
      let (idlers, isOver) = state.withLock { state in
        state.isClosed = true
        defer { state.idlers = [] }
        if state.threads > 0 { state.closers.append(continuation) }
        return (state.idlers, state.threads == 0)
      }
      for idler in idlers { idler.semaphore.signal() }
      if isOver { continuation.resume() }
    }
  }

  private func submit(_ job: Job) -> PersistenceError? {
    switch state.withLock({ place(job, &$0) }) {
    case .given(let idler): idler.semaphore.signal()
    case .newThread: Threads.start(name: "postgres") { self.serve() }
    case .queued: break
    case .refused(let error): return error
    }
    return nil
  }

  private func place(_ job: Job, _ state: inout State) -> Placement {
    guard !state.isClosed else { return .refused(.failed("the database is closed")) }
    if let idler = state.idlers.popLast() {
      idler.job.withLock { $0 = job }
      return .given(idler)
    }
    guard state.waiting.count - state.head < configuration.maximumWaiting else {
      return .refused(.unavailable("too many calls wait"))
    }
    state.waiting.append(job)
    guard state.threads < configuration.maximumConnections else { return .queued }
    state.threads += 1
    return .newThread
  }

  private func serve() {
    let session = PostgresSession(configuration, servers: servers, logger: logger)
    let idler = Idler()
    while let job = next(idler) { job.perform(session, job.start) }
    session.disconnect()
    let closers = state.withLock { state in
      state.threads -= 1
      defer { if state.threads == 0 { state.closers = [] } }
      return state.threads == 0 ? state.closers : []
    }
    for closer in closers { closer.resume() }
  }

  /// Waits for the next job; nil when the pool was closed and no job is left.
  private func next(_ idler: Idler) -> Job? {
    while true {
      let (job, isOver) = state.withLock { state -> (Job?, Bool) in
        if let job = Self.first(&state) { return (job, false) }
        guard !state.isClosed else { return (nil, true) }
        state.idlers.append(idler)
        return (nil, false)
      }
      if job != nil || isOver { return job }
      idler.semaphore.wait()
      if let job = idler.job.withLock({ job in
        defer { job = nil }; return job
      }) {
        return job
      }
    }
  }

  private static func first(_ state: inout State) -> Job? {
    guard state.head < state.waiting.count else { return nil }
    let job = state.waiting[state.head]
    state.head += 1
    if state.head == state.waiting.count {
      state.waiting.removeAll(keepingCapacity: true)
      state.head = 0
    }
    return job
  }
}
