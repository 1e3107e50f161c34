import Concurrency
import Connect
import HummingbirdCore
import NIOCore
package import SwiftProtobuf

/// Writes the response messages of a handler. Every message is one frame and is flushed at once.
package struct ConnectWriter<R: Message>: Sendable {
  private let sink: FrameSink
  private let codec: ConnectCodec

  init(sink: FrameSink, codec: ConnectCodec) {
    self.sink = sink
    self.codec = codec
  }

  /// Writes one message. Returns when the connection has room for more (back-pressure). May be called from several
  /// tasks: frames are not interleaved.
  /// - Throws: when the client has disconnected, the task was cancelled, or the handler has already returned.
  package func write(_ message: R) async throws {
    try await sink.write(codec.encodeFrame(message))
  }
}

/// The body of one streamed response, shared by the tasks of its handler.
final class FrameSink: Sendable {
  /// Bytes that may be on their way to the connection's event loop. NIO's writer notices a full connection only there,
  /// so without a bound a fast handler on a busy machine could queue any amount before the event loop runs.
  private static let maximumPendingBytes = 262_144

  private let gate: HeadGate
  private let eventLoop: any EventLoop
  private let state = Mutex(State())

  private struct State {
    var isFinished = false
    var pendingBytes = 0
  }

  init(_ gate: HeadGate, eventLoop: any EventLoop) {
    self.gate = gate
    self.eventLoop = eventLoop
  }

  func write(_ frame: ByteBuffer) async throws {
    let mustWait = try state.withLock { state throws(ConnectError) in
      guard !state.isFinished else {
        throw ConnectError(.internalError, "the response is finished; nothing more can be written")
      }
      state.pendingBytes += frame.readableBytes
      guard state.pendingBytes > Self.maximumPendingBytes else { return false }
      state.pendingBytes = 0
      return true
    }
    var writer = try await gate.writer()
    try await writer.write(frame)
    if mustWait { try await eventLoop.submit {}.get() }
  }

  /// Writes the end-of-stream frame and ends the HTTP body.
  func finish(_ error: ConnectError?) async throws {
    state.withLock { $0.isFinished = true }
    var writer = try await gate.writer()
    let frame = Envelope(flags: .endOfStream, payload: ConnectError.encodeEndOfStream(error))
    try await writer.write(frame.encoded())
    try await writer.finish(nil)
  }

  /// Refuses further frames. The caller must throw afterwards, which closes the connection.
  func abandon() {
    state.withLock { $0.isFinished = true }
  }
}
