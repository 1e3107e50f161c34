package import Concurrency
import Connect

/// A stream of elements that an unstructured task reads from a peer, with a bounded queue to one consumer.
///
/// The task ends when the source ends, on `cancel()` or `fail(_:)`, or when the stream and its iterators are released.
/// A slow consumer stops the source; no element is dropped. May be iterated once.
///
/// If the reader finishes the queue itself, the task is not cancelled any more; only the idle limit ends it.
package final class BoundedStream<Element: Sendable>: AsyncSequence, Sendable {
  private let queue: BoundedQueue<Element>
  private let task: Task<Void, Never>

  /// - Parameters:
  ///   - capacity: elements that may wait for the consumer.
  ///   - idleLimit: time limit of each wait for the source.
  ///   - translating: maps an error of `read` to the error for the consumer.
  ///   - read: sends elements until the source ends.
  package init(
    capacity: Int, idleLimit: Duration, translating: @escaping @Sendable (any Error) -> any Error,
    _ read: @escaping @Sendable (BoundedQueue<Element>, IdleWatch) async throws -> Void
  ) {
    let queue = BoundedQueue<Element>(capacity: capacity)
    self.queue = queue
    // An unstructured task, because it reads, and must be cancellable, also while the consumer does not wait.
    task = Task {
      do {
        try await IdleWatch.run(limit: idleLimit) { try await read(queue, $0) }
        queue.finish()
      } catch {
        queue.finish(throwing: translating(error))
      }
    }
  }

  deinit {
    cancel()
  }

  /// Stops reading. The consumer gets the queued elements, then the end. Idempotent.
  package func cancel() { end(nil) }

  /// Stops reading. The consumer gets the queued elements, then the error. Idempotent.
  package func fail(_ error: any Error) { end(error) }

  private func end(_ error: (any Error)?) {
    if queue.finish(throwing: error) { task.cancel() }
  }

  package func makeAsyncIterator() -> AsyncIterator {
    AsyncIterator(stream: self)
  }

  package struct AsyncIterator: AsyncIteratorProtocol {
    fileprivate let stream: BoundedStream

    package func next() async throws -> Element? {
      try await stream.queue.next()
    }
  }
}

/// Ends an operation when one of its waits for the peer lasts too long. Other waits do not count.
package final class IdleWatch: Sendable {
  /// Checks per limit. A limit is exceeded by a sixth at most.
  private static let checksPerLimit = 6

  private let waitingSince = Mutex<ContinuousClock.Instant?>(nil)

  /// - Throws: the error of `operation`, or `ConnectError` with code `unavailable` when the peer was silent for
  ///   `limit`.
  package static func run<Value: Sendable>(
    limit: Duration, _ operation: @escaping @Sendable (IdleWatch) async throws -> Value
  ) async throws -> Value {
    let watch = IdleWatch()
    return try await withThrowingTaskGroup(of: Value?.self) { group in
      group.addTask { try await operation(watch) }
      group.addTask {
        try await watch.sleepUntilIdle(limit)
        return nil
      }
      defer { group.cancelAll() }
      guard let first = try await group.next(), let value = first else {
        throw ConnectError(.unavailable, "the peer sent nothing for \(limit)")
      }
      return value
    }
  }

  package func beginWaiting() {
    waitingSince.withLock { $0 = .now }
  }

  package func endWaiting() {
    waitingSince.withLock { $0 = nil }
  }

  private func sleepUntilIdle(_ limit: Duration) async throws {
    while true {
      try await Task.sleep(for: limit / Self.checksPerLimit)
      guard let since = waitingSince.withLock({ $0 }) else { continue }
      if .now - since >= limit { return }
    }
  }
}

extension IdleWatch {
  /// Counts the duration of `wait` as silence of the peer.
  package func waiting<Value>(
    isolation: isolated (any Actor)? = #isolation, for wait: () async throws -> Value
  ) async rethrows -> Value {
    beginWaiting()
    defer { endWaiting() }
    return try await wait()
  }
}

/// An upload that counts the time between its pieces as silence of the peer, but not the time that its source takes.
package struct WatchedUpload<Base: AsyncSequence & Sendable>: AsyncSequence, Sendable {
  package typealias Element = Base.Element

  private let base: Base
  private let watch: IdleWatch

  package init(base: Base, watch: IdleWatch) {
    self.base = base
    self.watch = watch
  }

  package func makeAsyncIterator() -> AsyncIterator {
    AsyncIterator(base: base.makeAsyncIterator(), watch: watch)
  }

  package struct AsyncIterator: AsyncIteratorProtocol {
    fileprivate var base: Base.AsyncIterator
    fileprivate let watch: IdleWatch

    package mutating func next() async throws -> Base.Element? {
      watch.endWaiting()
      defer { watch.beginWaiting() }
      return try await base.next()
    }
  }
}
