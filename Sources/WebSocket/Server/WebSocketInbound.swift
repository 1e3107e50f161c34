import Concurrency

/// The connection ended without a close handshake.
package struct WebSocketConnectionLost: Error {
  package init() {}
}

/// Messages from the client, in order. May be iterated by one task at a time.
///
/// Ends after the client's close frame; throws `WebSocketConnectionLost` or `WebSocketProtocolError`. If the consumer
/// does not read, TCP stops the client once `capacity` messages wait. A cancelled consumer loses no message.
package struct WebSocketInbound: AsyncSequence, Sendable {
  package typealias Element = WebSocketMessage

  /// Messages that may wait for the handler. The frame parser bounds each.
  static let capacity = 8

  let queue: BoundedQueue<WebSocketMessage>

  package struct AsyncIterator: AsyncIteratorProtocol {
    let queue: BoundedQueue<WebSocketMessage>

    package mutating func next() async throws -> WebSocketMessage? {
      try await queue.next()
    }
  }

  package func makeAsyncIterator() -> AsyncIterator {
    AsyncIterator(queue: queue)
  }
}
