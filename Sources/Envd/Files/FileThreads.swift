import NIOPosix

/// The threads for the file service's blocking calls. They are kept, because a transfer makes thousands of short calls.
///
/// A call that hangs (a dead network mount) occupies one of them; the cooperative pool and the event loops stay free.
enum FileThreads {
  static let count = 4

  private static let pool: NIOThreadPool = {
    let pool = NIOThreadPool(numberOfThreads: count)
    pool.start()
    return pool
  }()

  /// Runs `body` on one of the threads. Throws `CancellationError` if the task is cancelled before `body` starts.
  static func run<Result: Sendable>(_ body: @escaping @Sendable () throws -> Result) async throws -> Result {
    try await pool.runIfActive(body)
  }
}
