import Connect
import HummingbirdCore
import NIOCore
package import SwiftProtobuf

/// The request messages that a client streams to a handler. They are pulled, so back-pressure reaches the client. May
/// be iterated once.
///
/// Ends when the client has sent its last frame. Throws `ConnectError` for malformed frames, and the connection's error
/// when it breaks earlier.
package struct ConnectRequests<Q: Message>: AsyncSequence, Sendable {
  package typealias Element = Q

  private let body: RequestBody
  private let codec: ConnectCodec
  private let maximumMessageBytes: Int

  init(body: RequestBody, codec: ConnectCodec, maximumMessageBytes: Int) {
    self.body = body
    self.codec = codec
    self.maximumMessageBytes = maximumMessageBytes
  }

  package func makeAsyncIterator() -> AsyncIterator {
    AsyncIterator(
      chunks: body.makeAsyncIterator(), codec: codec, decoder: EnvelopeDecoder(maximumPayload: maximumMessageBytes))
  }

  package struct AsyncIterator: AsyncIteratorProtocol {
    fileprivate var chunks: RequestBody.AsyncIterator
    fileprivate let codec: ConnectCodec
    fileprivate var decoder: EnvelopeDecoder

    package mutating func next() async throws -> Q? {
      while true {
        if let envelope = try decoder.next() {
          guard !envelope.flags.contains(.endOfStream) else {
            throw ConnectError(.invalidArgument, "a request must not contain an end-of-stream frame")
          }
          return try codec.decode(from: envelope.payload)
        }
        guard let chunk = try await chunks.next() else {
          try decoder.finish()
          return nil
        }
        decoder.append(chunk)
      }
    }
  }

  /// The request message of a call that has exactly one.
  /// - Throws: `unimplemented` for none or several, as the reference implementation does.
  func single() async throws -> Q {
    var iterator = makeAsyncIterator()
    guard let message = try await iterator.next() else {
      throw ConnectError(.unimplemented, "the call needs one request message and got none")
    }
    guard try await iterator.next() == nil else {
      throw ConnectError(.unimplemented, "the call takes one request message and got several")
    }
    return message
  }
}
