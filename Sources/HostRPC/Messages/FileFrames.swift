import Connect
package import NIOCore

/// A file's content on its way to a host, cut into frames, with a last one that says that nothing is missing (L-15). A
/// connection that breaks is not taken for the end of the file. To be iterated once.
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
    fileprivate var rest = ByteBuffer()
    fileprivate var isFinished = false

    package mutating func next() async throws -> ByteBuffer? {
      guard !isFinished else { return nil }
      while rest.readableBytes == 0 {
        guard let chunk = try await base.next() else {
          isFinished = true
          return Envelope(flags: .endOfStream, payload: ByteBuffer()).encoded()
        }
        rest = chunk
      }
      let piece = rest.readSlice(length: Swift.min(rest.readableBytes, HostMessageLimits.pieceBytes)) ?? ByteBuffer()
      return Envelope(payload: piece).encoded()
    }
  }
}

/// The content that comes in such frames; pulled, so back-pressure reaches the sender. To be iterated once.
///
/// Throws `ConnectError` when the frames are malformed, or end without the last one.
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
          throw ConnectError(.invalidArgument, "the file was cut before its end")
        }
        decoder.append(chunk)
      }
    }
  }
}
