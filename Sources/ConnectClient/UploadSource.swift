import Concurrency

/// A request body that records the error of its source, so that the caller can throw that error instead of the HTTP
/// client's. May be iterated once.
package struct UploadSource<Base: AsyncSequence & Sendable>: AsyncSequence, Sendable {
  package typealias Element = Base.Element

  private let base: Base
  private let record = Record()

  package init(_ base: Base) {
    self.base = base
  }

  /// The error that ended the source; nil if it has not failed.
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
