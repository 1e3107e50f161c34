import Connect
package import NIOCore

/// The content of a file upload, split into frames. The last frame marks the end, so that a broken connection is not
/// taken for the end of the file. May be iterated once.
package struct FramedContent<Base: AsyncSequence & Sendable>: AsyncSequence, Sendable where Base.Element == ByteBuffer {
  package typealias Element = ByteBuffer

  private let base: Base

  package init(_ base: Base) {
    self.base = base
  }

  package func makeAsyncIterator() -> AsyncIterator {
    AsyncIterator(base: base.makeAsyncIterator())
  }

  package struct AsyncIterator: AsyncIteratorProtocol {
    fileprivate var base: Base.AsyncIterator
    fileprivate var remaining = ByteBuffer()
    fileprivate var isFinished = false

    package mutating func next() async throws -> ByteBuffer? {
      guard !isFinished else { return nil }
      while remaining.readableBytes == 0 {
        guard let chunk = try await base.next() else {
          isFinished = true
          return Envelope(flags: .endOfStream, payload: ByteBuffer()).encoded()
        }
        remaining = chunk
      }
      let piece =
        remaining.readSlice(length: Swift.min(remaining.readableBytes, HostMessageLimits.pieceBytes)) ?? ByteBuffer()
      return Envelope(payload: piece).encoded()
    }
  }
}

/// The content of such frames; pulled, so that back pressure reaches the sender. May be iterated once.
///
/// Throws `ConnectError` when a frame is malformed or the last frame is missing.
package struct UnframedContent<Base: AsyncSequence & Sendable>: AsyncSequence, Sendable
where Base.Element == ByteBuffer {
  package typealias Element = ByteBuffer

  private let base: Base

  package init(_ base: Base) {
    self.base = base
  }

  package func makeAsyncIterator() -> AsyncIterator {
    AsyncIterator(base: base.makeAsyncIterator())
  }

  package struct AsyncIterator: AsyncIteratorProtocol {
    fileprivate var base: Base.AsyncIterator
    fileprivate var decoder = EnvelopeDecoder(maximumPayload: HostMessageLimits.pieceBytes)
    fileprivate var isFinished = false

    package mutating func next() async throws -> ByteBuffer? {
      guard !isFinished else { return nil }
      while true {
        if let frame = try decoder.next() {
          guard frame.flags.contains(.endOfStream) else { return frame.payload }
          isFinished = true
          return nil
        }
        guard let chunk = try await base.next() else {
          throw ConnectError(.invalidArgument, "the file's content is truncated")
        }
        decoder.append(chunk)
      }
    }
  }
}
