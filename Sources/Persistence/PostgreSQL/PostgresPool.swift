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
  private final class IdleThread: Sendable {
    let semaphore = DispatchSemaphore(value: 0)
    let job = Mutex<Job?>(nil)
  }

  private struct State {
    var waiting: [Job] = []
    var head = 0
    var idleThreads: [IdleThread] = []
    var threads = 0
    var isClosed = false
    var closeContinuations: [CheckedContinuation<Void, Never>] = []
  }

  private enum Assignment {
    case idleThread(IdleThread)
    case newThread
    case queued
    case rejected(PersistenceError)
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
      if let error = submit(job) { continuation.resume(throwing: error) }
    }
  }

  /// Waits for work in progress, then closes all connections.
  func close() async {
    await withCheckedContinuation { continuation in
      let (idleThreads, isFinished) = state.withLock { state in
        state.isClosed = true
        defer { state.idleThreads = [] }
        if state.threads > 0 { state.closeContinuations.append(continuation) }
        return (state.idleThreads, state.threads == 0)
      }
      for idleThread in idleThreads { idleThread.semaphore.signal() }
      if isFinished { continuation.resume() }
    }
  }

  private func submit(_ job: Job) -> PersistenceError? {
    switch state.withLock({ assign(job, &$0) }) {
    case .idleThread(let idleThread): idleThread.semaphore.signal()
    case .newThread: Threads.start(name: "postgres") { self.serve() }
    case .queued: break
    case .rejected(let error): return error
    }
    return nil
  }

  private func assign(_ job: Job, _ state: inout State) -> Assignment {
    guard !state.isClosed else { return .rejected(.failed("the database is closed")) }
    if let idleThread = state.idleThreads.popLast() {
      idleThread.job.withLock { $0 = job }
      return .idleThread(idleThread)
    }
    guard state.waiting.count - state.head < configuration.maximumWaiting else {
      return .rejected(.unavailable("too many calls wait for a connection"))
    }
    state.waiting.append(job)
    guard state.threads < configuration.maximumConnections else { return .queued }
    state.threads += 1
    return .newThread
  }

  private func serve() {
    let session = PostgresSession(configuration, servers: servers, logger: logger)
    let idleThread = IdleThread()
    while let job = next(idleThread) { job.perform(session, job.start) }
    session.disconnect()
    let closeContinuations = state.withLock { state in
      state.threads -= 1
      defer { if state.threads == 0 { state.closeContinuations = [] } }
      return state.threads == 0 ? state.closeContinuations : []
    }
    for continuation in closeContinuations { continuation.resume() }
  }

  /// Waits for the next job; nil when the pool was closed and no job is left.
  private func next(_ idleThread: IdleThread) -> Job? {
    while true {
      let (job, isFinished) = state.withLock { state -> (Job?, Bool) in
        if let job = Self.first(&state) { return (job, false) }
        guard !state.isClosed else { return (nil, true) }
        state.idleThreads.append(idleThread)
        return (nil, false)
      }
      if job != nil || isFinished { return job }
      idleThread.semaphore.wait()
      if let job = idleThread.job.withLock({ job in
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
