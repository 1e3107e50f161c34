package import NIOCore
package import NIOHTTP1

/// A client connection of the WebSocket protocol: receives and sends messages with back-pressure.
///
/// The connection exists only inside `withConnection(to:…)`. The server's pings are answered automatically. A server
/// that does not answer pings is reported as `connectionLost`. Source: RFC 6455.
package struct ClientWebSocket: Sendable {
  /// The server and the resource of a connection.
  package struct Target: Sendable {
    package var host: String
    package var port: Int
    /// Path and query, percent-encoded.
    package var uri: String
    /// Sent with the upgrade request, in addition to the headers of the protocol.
    package var headers: HTTPHeaders

    package init(host: String, port: Int, uri: String, headers: HTTPHeaders = [:]) {
      self.host = host
      self.port = port
      self.uri = uri
      self.headers = headers
    }
  }

  /// Time and size limits.
  package struct Configuration: Sendable {
    package var connectTimeout: Duration = .seconds(10)
    /// From the established connection to the response to the upgrade request.
    package var upgradeTimeout: Duration = .seconds(30)
    /// Longest payload of a received frame.
    package var maximumFrameBytes = 1 << 20
    /// Longest message, reassembled from fragments.
    package var maximumMessageBytes = 4 << 20
    /// Interval of pings. The connection has failed if the server sends nothing for an interval while the client reads.
    package var pingInterval: Duration = .seconds(20)
    /// How long the client waits for the server's close frame.
    package var closeTimeout: Duration = .seconds(2)
    /// Bytes that are kept of the body of a response that refuses the upgrade.
    package var maximumRefusalBytes = 64 << 10

    package init() {}
  }

  package enum Message: Sendable, Equatable {
    case text(String)
    case binary(ByteBuffer)
  }

  package enum Event: Sendable, Equatable {
    case message(Message)
    /// The server has sent a close frame; always the last event. `code` is nil when the frame had none.
    case closed(code: UInt16?, reason: String)
  }

  /// The events of a connection. Ends after `closed`; throws `ClientWebSocketError` when the connection breaks. May be
  /// iterated once.
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
          // A connection that ends during the upgrade ends without an error event.
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

  /// Sends a message. Returns when the connection has room for more. May be called from several tasks; messages are not
  /// interleaved.
  /// - Throws: `ChannelError` and other errors of SwiftNIO when the connection has ended.
  package func send(_ message: Message) async throws {
    try await writer.write(.message(message))
  }
}

package enum ClientWebSocketError: Error, Sendable, Equatable {
  /// The server responded to the upgrade request with a plain response.
  case refused(status: Int, body: ByteBuffer)
  /// The value names the step that took too long.
  case timedOut(String)
  /// The connection ended without a close frame, or the server no longer answers pings.
  case connectionLost
  case protocolViolation(String)
  case messageTooLarge(limitBytes: Int)
}
