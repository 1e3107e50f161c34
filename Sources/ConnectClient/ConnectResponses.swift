import AsyncHTTPClient
import Connect
import NIOCore
package import SwiftProtobuf

/// The response messages of a server stream. They are pulled, so back-pressure reaches the server. May be iterated
/// once.
///
/// Ends after the server's end-of-stream frame. Throws the server's `ConnectError`, or `unavailable` when the
/// connection ended before that frame. Iterating to the end returns the connection to the pool; stopping earlier closes
/// it.
package struct ConnectResponses<R: Message>: AsyncSequence, Sendable {
  package typealias Element = R

  private let body: HTTPClientResponse.Body
  private let codec: ConnectCodec
  private let maximumMessageBytes: Int

  init(body: HTTPClientResponse.Body, codec: ConnectCodec, maximumMessageBytes: Int) {
    self.body = body
    self.codec = codec
    self.maximumMessageBytes = maximumMessageBytes
  }

  package func makeAsyncIterator() -> AsyncIterator {
    AsyncIterator(
      chunks: body.makeAsyncIterator(), codec: codec, decoder: EnvelopeDecoder(maximumPayload: maximumMessageBytes))
  }

  package struct AsyncIterator: AsyncIteratorProtocol {
    fileprivate var chunks: HTTPClientResponse.Body.AsyncIterator
    fileprivate let codec: ConnectCodec
    fileprivate var decoder: EnvelopeDecoder
    fileprivate var isFinished = false

    fileprivate init(chunks: HTTPClientResponse.Body.AsyncIterator, codec: ConnectCodec, decoder: EnvelopeDecoder) {
      self.chunks = chunks
      self.codec = codec
      self.decoder = decoder
    }

    package mutating func next() async throws -> R? {
      guard !isFinished else { return nil }
      while true {
        if let envelope = try decoder.next() {
          guard !envelope.flags.contains(.endOfStream) else { return try await finish(envelope) }
          return try decode(envelope)
        }
        guard let chunk = try await nextChunk() else {
          isFinished = true
          throw ConnectError(.unavailable, "the stream was cut before its end")
        }
        decoder.append(chunk)
      }
    }

    /// Reads the HTTP body to its end, so that the connection can be reused, and then reports the result of the call.
    private mutating func finish(_ envelope: Envelope) async throws -> R? {
      isFinished = true
      let error = try ConnectError.decodeEndOfStream(envelope.payload)
      try decoder.finish()
      while let chunk = try await nextChunk() {
        guard chunk.readableBytes == 0 else {
          throw ConnectError(.internalError, "the stream goes on after its last frame")
        }
      }
      if let error { throw error }
      return nil
    }

    private mutating func nextChunk() async throws -> ByteBuffer? {
      do {
        return try await chunks.next()
      } catch {
        throw transportError(error)
      }
    }

    private func decode(_ envelope: Envelope) throws -> R {
      do {
        return try codec.decode(from: envelope.payload)
      } catch {
        throw ConnectError(.internalError, "the server's message is not valid: \(error.message)")
      }
    }
  }

  /// The response message of a call that has exactly one.
  func single() async throws -> R {
    var response: R?
    for try await message in self {
      guard response == nil else { throw ConnectError(.unimplemented, "the server sent several messages") }
      response = message
    }
    guard let response else { throw ConnectError(.unimplemented, "the server sent no message") }
    return response
  }
}
