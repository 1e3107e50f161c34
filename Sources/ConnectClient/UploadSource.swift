import Concurrency

/// A request body that remembers why its source failed, so that the caller learns the source's own error and not what
/// the HTTP client makes of it. To be iterated once.
package struct UploadSource<Base: AsyncSequence & Sendable>: AsyncSequence, Sendable {
  package typealias Element = Base.Element

  private let base: Base
  private let record = Record()

  package init(_ base: Base) {
    self.base = base
  }

  /// The error that ended the source; nil while there is none.
  package var error: (any Error)? { record.error.withLock { $0 } }

  package func makeAsyncIterator() -> AsyncIterator {
    AsyncIterator(base: base.makeAsyncIterator(), record: record)
  }

  package struct AsyncIterator: AsyncIteratorProtocol {
    fileprivate var base: Base.AsyncIterator
    fileprivate let record: Record

    package mutating func next() async throws -> Base.Element? {
      do {
        return try await base.next()
      } catch {
        record.error.withLock { $0 = error }
        throw error
      }
    }
  }

  fileprivate final class Record: Sendable {
    let error = Mutex<(any Error)?>(nil)
  }
}
