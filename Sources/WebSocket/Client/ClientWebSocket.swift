package import NIOCore
package import NIOHTTP1

/// One client connection of the WebSocket protocol: messages in, messages out, both with back-pressure.
///
/// The connection exists only inside `withConnection(to:…)`. Pings of the server are answered without the consumer's
/// help; a server that stays silent to our pings is reported as `connectionLost`. Source: RFC 6455.
package struct ClientWebSocket: Sendable {
  /// Where to connect and what to ask for.
  package struct Target: Sendable {
    package var host: String
    package var port: Int
    /// Path and query, percent-encoded.
    package var uri: String
    /// Sent with the upgrade request beside those that the protocol demands.
    package var headers: HTTPHeaders

    package init(host: String, port: Int, uri: String, headers: HTTPHeaders = [:]) {
      self.host = host
      self.port = port
      self.uri = uri
      self.headers = headers
    }
  }

  /// Bounds in time and size.
  package struct Configuration: Sendable {
    package var connectTimeout: Duration = .seconds(10)
    /// From the established connection to the answer to the upgrade request.
    package var upgradeTimeout: Duration = .seconds(30)
    /// Payload of a single frame that we accept.
    package var maximumFrameBytes = 1 << 20
    /// A message put together from fragments.
    package var maximumMessageBytes = 4 << 20
    /// A ping goes out at this interval; an interval without any byte from the server, while we read, ends the
    /// connection.
    package var pingInterval: Duration = .seconds(20)
    /// How long we wait for the server's half of the close handshake.
    package var closeTimeout: Duration = .seconds(2)
    /// Body of an answer that refuses the upgrade; the rest is dropped.
    package var maximumRefusalBytes = 64 << 10

    package init() {}
  }

  package enum Message: Sendable, Equatable {
    case text(String)
    case binary(ByteBuffer)
  }

  package enum Event: Sendable, Equatable {
    case message(Message)
    /// The server closed the connection properly; always the last event. `code` is nil when the server gave none.
    case closed(code: UInt16?, reason: String)
  }

  /// Ends after `closed`; throws `ClientWebSocketError` when the connection breaks. To be iterated once.
  package struct Inbound: AsyncSequence, Sendable {
    let stream: NIOAsyncChannelInboundStream<Event>

    package struct AsyncIterator: AsyncIteratorProtocol {
      var base: NIOAsyncChannelInboundStream<Event>.AsyncIterator
      private var isClosed = false

      init(base: NIOAsyncChannelInboundStream<Event>.AsyncIterator) {
        self.base = base
      }

      package mutating func next() async throws -> Event? {
        guard !isClosed else { return nil }
        guard let event = try await base.next() else {
          try Task.checkCancellation()
          // A connection that ends in the moment of the upgrade ends before anybody could call it an error.
          throw ClientWebSocketError.connectionLost
        }
        if case .closed = event { isClosed = true }
        return event
      }
    }

    package func makeAsyncIterator() -> AsyncIterator { AsyncIterator(base: stream.makeAsyncIterator()) }
  }

  package let inbound: Inbound
  let writer: NIOAsyncChannelOutboundWriter<Command>

  enum Command: Sendable {
    case message(Message)
    case close(code: UInt16)
  }

  /// Returns when the connection has room for more. Safe to call from several tasks; messages stay whole.
  /// - Throws: `ChannelError` and friends when the connection is gone.
  package func send(_ message: Message) async throws {
    try await writer.write(.message(message))
  }
}

package enum ClientWebSocketError: Error, Sendable, Equatable {
  /// The server answered the upgrade request with a plain response.
  case refused(status: Int, body: ByteBuffer)
  /// What did not happen in time.
  case timedOut(String)
  /// The connection ended without a close frame, or the server stopped answering.
  case connectionLost
  case protocolViolation(String)
  case messageTooLarge(limitBytes: Int)
}
