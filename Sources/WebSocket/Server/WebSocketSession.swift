import Concurrency
package import Hummingbird
package import HummingbirdCore
import Logging
package import NIOCore
import NIOWebSocket
import ServiceLifecycle

/// A route's handler of its WebSocket. Cancelled when the connection ends or the server shuts down.
///
/// The connection is closed with 1000 when the handler returns, with the error's code when it throws a
/// `WebSocketProtocolError`, otherwise with 1011.
package typealias WebSocketHandler = @Sendable (WebSocketInbound, WebSocketOutbound) async throws -> Void

/// One WebSocket connection from the 101 to the last byte.
package struct WebSocketSession: Sendable {
  package static let pingInterval: Duration = .seconds(30)
  /// Interval of pings while the handler does not read the client's messages.
  static let blockedPingInterval: Duration = .seconds(2)
  /// How long the client may take to answer a close frame.
  static let closeDeadline: Duration = .seconds(2)

  private enum Event: Sendable {
    case readerEnded
    case handlerEnded((any Error)?)
    case clientSilent
    case serverStops
    case closeSent
    case closeTimedOut
  }

  let maximumMessageBytes: Int
  let pingInterval: Duration
  let body: RequestBody
  let channel: any Channel
  let handler: WebSocketHandler

  /// The 101 response that carries a session, for a route to return. Validate everything before: afterwards errors can
  /// only be reported as close codes.
  package static func response(
    headers: HTTPFields, body: RequestBody, channel: any Channel, maximumMessageBytes: Int,
    pingInterval: Duration = WebSocketSession.pingInterval, handler: @escaping WebSocketHandler
  ) -> Response {
    let session = WebSocketSession(
      maximumMessageBytes: maximumMessageBytes, pingInterval: pingInterval, body: body, channel: channel,
      handler: handler)
    return Response(
      status: .switchingProtocols, headers: headers,
      body: ResponseBody { writer in
        await session.run()
        try await writer.finish(nil)
      })
  }

  func run() async {
    let queue = BoundedQueue<WebSocketMessage>(capacity: WebSocketInbound.capacity)
    let outbound = WebSocketOutbound(channel: channel)
    let lastReceived = LastReceived()
    let watch = await ConnectionWatch.of(channel)
    let number = watch?.addObserver {
      // Data in the connection is still read, but input that the handler does not take must not hide the disconnect.
      queue.stopWaitingForSpace()
    }
    defer { if let number { watch?.removeObserver(number) } }
    await withTaskGroup(of: Event.self) { group in
      group.addTask {
        await read(into: queue, outbound, lastReceived)
        return .readerEnded
      }
      group.addTask {
        do {
          try await handler(WebSocketInbound(queue: queue), outbound)
          return .handlerEnded(nil)
        } catch {
          return .handlerEnded(error)
        }
      }
      group.addTask { await keepAlive(queue, outbound, lastReceived) }
      group.addTask { await Self.shutdown() }
      await superviseTasks(&group, outbound)
    }
  }

  /// Ends all tasks when one of reader, handler, keep-alive and server has ended.
  private func superviseTasks(_ group: inout TaskGroup<Event>, _ outbound: WebSocketOutbound) async {
    var isClosing = false
    while let event = await group.next() {
      switch event {
      case .readerEnded, .closeTimedOut:
        group.cancelAll()
        return
      case .clientSilent:
        channel.close(promise: nil)
        group.cancelAll()
        return
      case .serverStops where !isClosing:
        isClosing = true
        beginClosing(&group) { await outbound.close(.goingAway, "the server is shutting down") }
      case .handlerEnded(let error) where !isClosing:
        isClosing = true
        beginClosing(&group) { await close(outbound, after: error) }
      case .handlerEnded, .serverStops, .closeSent:
        continue
      }
    }
  }

  /// The deadline runs in parallel with the close frame, because a client that does not read does not take that frame
  /// either.
  private func beginClosing(_ group: inout TaskGroup<Event>, _ close: @escaping @Sendable () async -> Void) {
    group.addTask {
      await close()
      return .closeSent
    }
    group.addTask {
      try? await Task.sleep(for: Self.closeDeadline)
      return .closeTimedOut
    }
  }

  private func close(_ outbound: WebSocketOutbound, after error: (any Error)?) async {
    switch error {
    case nil, is WebSocketConnectionLost: await outbound.close(.normalClosure)
    case let error as WebSocketProtocolError: await outbound.close(error.code, error.reason)
    default: await outbound.close(.unexpectedServerError)
    }
  }

  // MARK: Reading

  private func read(
    into queue: BoundedQueue<WebSocketMessage>, _ outbound: WebSocketOutbound, _ lastReceived: LastReceived
  ) async {
    do {
      try await readFrames(into: queue, outbound, lastReceived)
    } catch let error as WebSocketProtocolError {
      await outbound.close(error.code, error.reason)
      queue.finish(throwing: error)
    } catch {
      queue.finish(throwing: WebSocketConnectionLost())
    }
  }

  private func readFrames(
    into queue: BoundedQueue<WebSocketMessage>, _ outbound: WebSocketOutbound, _ lastReceived: LastReceived
  ) async throws {
    var parser = WebSocketFrameParser(maximumPayloadBytes: maximumMessageBytes)
    var assembler = WebSocketMessageAssembler(maximumMessageBytes: maximumMessageBytes)
    var buffer = ByteBuffer()
    for try await bytes in body {
      lastReceived.record()
      if buffer.readableBytes == 0 { buffer = bytes } else { buffer.writeImmutableBuffer(bytes) }
      while let frame = try parser.next(&buffer) {
        switch frame.opcode {
        case .ping:
          try await outbound.pong(frame.payload)
        case .pong:
          continue
        case .close:
          await outbound.close(try WebSocketClosure(frame.payload))
          queue.finish()
          return
        case .continuation, .text, .binary:
          guard let message = try assembler.add(frame) else { continue }
          do {
            try await queue.send(message)
          } catch {
            throw WebSocketConnectionLost()
          }
          lastReceived.record()
        }
      }
      buffer.discardReadBytes()
    }
    throw WebSocketConnectionLost()
  }

  // MARK: Keep-alive

  private func keepAlive(
    _ queue: BoundedQueue<WebSocketMessage>, _ outbound: WebSocketOutbound, _ lastReceived: LastReceived
  ) async -> Event {
    var lastPing = ContinuousClock.now
    do {
      while true {
        try await Task.sleep(for: min(pingInterval, Self.blockedPingInterval))
        // A client that is slow to read cannot answer pings; TCP notices when it dies.
        guard !outbound.isBlocked else { continue }
        // While the queue is full, the client's pongs and its end are not seen behind the waiting input. But a ping to
        // a client that has gone makes its kernel reset the connection.
        let isBlocked = queue.isFull
        guard isBlocked || ContinuousClock.now - lastPing >= pingInterval else { continue }
        if !isBlocked, ContinuousClock.now - lastReceived.time > pingInterval * 2 { return .clientSilent }
        try await outbound.ping()
        lastPing = .now
      }
    } catch {
      // Cancelled, or sending has failed: then the reader or the handler ends the session.
      return await Self.idle()
    }
  }

  private static func shutdown() async -> Event {
    try? await gracefulShutdown()
    return Task.isCancelled ? await idle() : .serverStops
  }

  /// Waits until the task is cancelled.
  private static func idle() async -> Event {
    try? await Task.sleep(for: .seconds(86_400 * 365))
    return .serverStops
  }
}

/// The time of the client's last data.
private final class LastReceived: Sendable {
  private let state = Mutex(ContinuousClock.now)

  var time: ContinuousClock.Instant { state.withLock { $0 } }
  func record() { state.withLock { $0 = .now } }
}
