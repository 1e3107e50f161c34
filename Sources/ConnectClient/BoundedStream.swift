package import Concurrency
import Connect

/// Elements that a task of this stream's own reads from a peer and hands to one consumer, with bounded room between the
/// two.
///
/// The task lives as long as the stream or an iterator of it, until `cancel()`, or until the source ends. A consumer
/// that is slow stops the source, nothing is dropped. To be iterated once.
///
/// When the reader itself has finished the queue, what it still reads is its own affair: it is not cancelled any
/// more, only the idle limit ends it.
package final class BoundedStream<Element: Sendable>: AsyncSequence, Sendable {
  private let queue: BoundedQueue<Element>
  private let task: Task<Void, Never>

  /// - Parameters:
  ///   - capacity: elements that may wait for the consumer.
  ///   - idleLimit: the longest that one wait for the source may last.
  ///   - translating: gives what `read` throws the meaning that the consumer sees.
  ///   - read: hands on elements until the source ends.
  package init(
    capacity: Int, idleLimit: Duration, translating: @escaping @Sendable (any Error) -> any Error,
    _ read: @escaping @Sendable (BoundedQueue<Element>, IdleWatch) async throws -> Void
  ) {
    let queue = BoundedQueue<Element>(capacity: capacity)
    self.queue = queue
    // A task of its own, because reading must go on, and be cancellable, while nobody waits for an element.
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

  /// Stops reading; the consumer gets what waits already, then the end. Idempotent.
  package func cancel() { end(nil) }

  /// Stops reading; the consumer gets what waits already, then the error. Idempotent.
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

/// Ends an operation when one of its waits for the peer lasts too long. Waits for anybody else do not count.
package final class IdleWatch: Sendable {
  /// The watch looks this many times per limit, so that a limit is exceeded by a sixth at most.
  private static let checksPerLimit = 6

  private let waitingSince = Mutex<ContinuousClock.Instant?>(nil)

  /// - Throws: what `operation` throws, or `ConnectError` with code `unavailable` when the peer was silent for `limit`.
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
  /// Counts the time that `wait` takes as silence of the peer.
  package func waiting<Value>(
    isolation: isolated (any Actor)? = #isolation, for wait: () async throws -> Value
  ) async rethrows -> Value {
    beginWaiting()
    defer { endWaiting() }
    return try await wait()
  }
}

/// An upload that counts the time between its pieces as silence of the peer, and the time its own source takes not.
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
