import Concurrency
package import NIOCore
import NIOHTTPTypes
package import NIOWebSocket

/// Writes messages to the client. Each call returns when the kernel has taken the bytes, so a client that does not read
/// stops the producer. May be called from several tasks; messages are not interleaved.
package final class WebSocketOutbound: Sendable {
  /// How long a write may continue after its task was cancelled.
  private static let cancelledWriteGrace: TimeAmount = .seconds(2)

  private let channel: any Channel
  private let state = Mutex((isClosed: false, pendingWrites: 0))

  init(channel: any Channel) {
    self.channel = channel
  }

  /// - Throws: `WebSocketConnectionLost` when the connection has ended or a close frame has been sent.
  package func send(text: String) async throws {
    try await send(.text, ByteBuffer(string: text))
  }

  package func send(binary bytes: ByteBuffer) async throws {
    try await send(.binary, bytes)
  }

  /// Starts the close handshake. Later sends throw. Idempotent.
  package func close(_ code: WebSocketErrorCode, _ reason: String = "") async {
    await close(WebSocketClosure(code: UInt16(webSocketErrorCode: code), reason: reason))
  }

  func close(_ closure: WebSocketClosure) async {
    let isFirst = state.withLock { state in
      defer { state.isClosed = true }
      return !state.isClosed
    }
    guard isFirst else { return }
    try? await write(.close, closure.payload)
  }

  func pong(_ payload: ByteBuffer) async throws {
    try await send(.pong, payload)
  }

  func ping() async throws {
    try await send(.ping, ByteBuffer())
  }

  /// Whether the client is slow to read. Its silence does not mean then that it has disconnected.
  var isBlocked: Bool { state.withLock { $0.pendingWrites > 0 } }

  private func send(_ opcode: ClientFrame.Opcode, _ payload: ByteBuffer) async throws {
    guard state.withLock({ !$0.isClosed }) else { throw WebSocketConnectionLost() }
    try await write(opcode, payload)
  }

  private func write(_ opcode: ClientFrame.Opcode, _ payload: ByteBuffer) async throws {
    let head = WebSocketFrameHead.bytes(opcode, payloadBytes: payload.readableBytes)
    state.withLock { $0.pendingWrites += 1 }
    defer { state.withLock { $0.pendingWrites -= 1 } }
    let written = channel.eventLoop.makePromise(of: Void.self)
    channel.eventLoop.execute { [channel] in
      // Both in one event-loop task, so that no other frame comes between head and payload.
      channel.write(HTTPResponsePart.body(head), promise: nil)
      channel.writeAndFlush(HTTPResponsePart.body(payload), promise: written)
    }
    do {
      try await withTaskCancellationHandler {
        try await written.futureResult.get()
      } onCancel: {
        closeUnlessWritten(written.futureResult)
      }
    } catch {
      throw WebSocketConnectionLost()
    }
  }

  /// A client that reads may still get the message. A client that does not must not block the writing task.
  private func closeUnlessWritten(_ written: EventLoopFuture<Void>) {
    let timer = channel.eventLoop.scheduleTask(in: Self.cancelledWriteGrace) { [channel] in channel.close(promise: nil)
    }
    written.whenComplete { _ in timer.cancel() }
  }
}
