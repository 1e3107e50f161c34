import HostAPI
import NIOCore

/// A process session that counts as work until it ends or is detached.
struct MeteredSession: ProcessSession {
  let session: any ProcessSession
  let work: OpenWork

  var pid: UInt32 { session.pid }

  var events: any AsyncSequence<ProcessEvent, any Error> & Sendable {
    MeteredEvents(events: session.events, work: work)
  }

  func write(_ bytes: ByteBuffer) async throws { try await session.write(bytes) }
  func closeStandardInput() async throws { try await session.closeStandardInput() }
  func resize(_ size: TerminalSize) async throws { try await session.resize(size) }
  func signal(_ signal: Int32) async throws { try await session.signal(signal) }

  func detach(killing: Bool) async {
    await session.detach(killing: killing)
    work.end()
  }
}

/// Ends the work with the last event, or when the iterator is released.
private struct MeteredEvents: AsyncSequence, Sendable {
  typealias Element = ProcessEvent

  let events: any AsyncSequence<ProcessEvent, any Error> & Sendable
  let work: OpenWork

  func makeAsyncIterator() -> AsyncIterator { AsyncIterator(iterator: events.makeAsyncIterator(), work: work) }

  struct AsyncIterator: AsyncIteratorProtocol {
    var iterator: any AsyncIteratorProtocol<ProcessEvent, any Error>
    let work: OpenWork

    mutating func next() async throws -> ProcessEvent? {
      do {
        guard let event = try await iterator.next(isolation: nil) else {
          work.end()
          return nil
        }
        if case .exited = event { work.end() }
        return event
      } catch {
        work.end()
        throw error
      }
    }
  }
}

/// A download that counts as work until it has been read or is released.
struct MeteredBytes: AsyncSequence, Sendable {
  typealias Element = ByteBuffer

  let bytes: ByteStream
  let work: OpenWork

  func makeAsyncIterator() -> AsyncIterator { AsyncIterator(iterator: bytes.makeAsyncIterator(), work: work) }

  struct AsyncIterator: AsyncIteratorProtocol {
    var iterator: any AsyncIteratorProtocol<ByteBuffer, any Error>
    let work: OpenWork

    mutating func next() async throws -> ByteBuffer? {
      let next = try await iterator.next(isolation: nil)
      if next == nil { work.end() }
      return next
    }
  }
}
