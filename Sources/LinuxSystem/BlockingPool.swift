import CLinux
import Concurrency
import Glibc

/// Threads for calls that block in the kernel, so that they do not occupy Swift's cooperative pool.
///
/// At most `maximumThreads` run at once; further work waits in order.
package final class BlockingPool: Sendable {
  package static let shared = BlockingPool(maximumThreads: 32)

  private struct State {
    var queue: [@Sendable () -> Void] = []
    var head = 0
    var threads = 0
  }

  private let maximumThreads: Int
  private let state = Mutex(State())

  package init(maximumThreads: Int) {
    self.maximumThreads = maximumThreads
  }

  /// Runs `body` on a thread that may block.
  package func run<Result: Sendable, Failure: Error>(
    _ body: @escaping @Sendable () throws(Failure) -> Result
  ) async throws(Failure) -> Result {
    let outcome: Swift.Result<Result, Failure> = await withCheckedContinuation { continuation in
      submit {
        continuation.resume(returning: Swift.Result { () throws(Failure) -> Result in try body() })
      }
    }
    return try outcome.get()
  }

  private func submit(_ work: @escaping @Sendable () -> Void) {
    let startsThread = state.withLock { state in
      state.queue.append(work)
      guard state.threads < maximumThreads else { return false }
      state.threads += 1
      return true
    }
    if startsThread { Threads.start(name: "blocking") { self.drain() } }
  }

  private func drain() {
    while let work = next() { work() }
  }

  private func next() -> (@Sendable () -> Void)? {
    state.withLock { state in
      guard state.head < state.queue.count else {
        state.queue.removeAll(keepingCapacity: true)
        state.head = 0
        state.threads -= 1
        return nil
      }
      defer { state.head += 1 }
      return state.queue[state.head]
    }
  }
}

package enum Threads {
  /// Starts a detached thread. Aborts the process when the kernel refuses one.
  package static func start(name: String, _ body: @escaping @Sendable () -> Void) {
    final class Box: Sendable {
      let name: String
      let body: @Sendable () -> Void
      init(name: String, body: @escaping @Sendable () -> Void) {
        self.name = name
        self.body = body
      }
    }
    let box = Unmanaged.passRetained(Box(name: name, body: body))
    var attributes = pthread_attr_t()
    pthread_attr_init(&attributes)
    pthread_attr_setdetachstate(&attributes, Int32(PTHREAD_CREATE_DETACHED))
    var thread = pthread_t()
    let failure = pthread_create(
      &thread, &attributes,
      { argument in
        guard let argument else { return nil }
        let box = Unmanaged<Box>.fromOpaque(argument).takeRetainedValue()
        clinux_name_thread(box.name)
        box.body()
        return nil
      }, box.toOpaque())
    pthread_attr_destroy(&attributes)
    precondition(failure == 0, "pthread_create failed with \(failure)")
  }
}
