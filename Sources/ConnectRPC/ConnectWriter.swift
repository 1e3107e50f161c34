import HummingbirdCore
import NIOCore
package import SwiftProtobuf
import Synchronization

/// Where a handler writes the messages of its answer. Every message is one frame, flushed at once.
package struct ConnectWriter<R: Message>: Sendable {
  private let sink: FrameSink
  private let codec: ConnectCodec

  init(sink: FrameSink, codec: ConnectCodec) {
    self.sink = sink
    self.codec = codec
  }

  /// Returns when the connection has room for more (back-pressure). May be called from several tasks: frames never mix.
  /// - Throws: when the client is gone, the task was cancelled, or the handler has already returned.
  package func write(_ message: R) async throws {
    try await sink.write(codec.encodeFrame(message))
  }
}

/// The body of one streamed answer, shared by the tasks of its handler.
///
/// Unchecked, because Hummingbird's writer does not say that it is `Sendable`. Hummingbird's root writer is a value without
/// mutable state around NIO's thread-safe outbound writer; every call here works on a copy of its own.
final class FrameSink: @unchecked Sendable {
  private let writer: any ResponseBodyWriter
  private let isFinished = Mutex(false)

  init(_ writer: any ResponseBodyWriter) {
    self.writer = writer
  }

  func write(_ frame: ByteBuffer) async throws {
    guard !isFinished.withLock({ $0 }) else {
      throw ConnectError(.internalError, "the answer is finished; nothing more can be written")
    }
    var writer = writer
    try await writer.write(frame)
  }

  /// Writes the end-of-stream frame and ends the HTTP body.
  func finish(_ error: ConnectError?) async throws {
    isFinished.withLock { $0 = true }
    var writer = writer
    let frame = Envelope(flags: .endOfStream, payload: ConnectError.encodeEndOfStream(error))
    try await writer.write(frame.encoded())
    try await writer.finish(nil)
  }

  /// No more frames; the connection is to be closed by whoever throws next.
  func abandon() {
    isFinished.withLock { $0 = true }
  }
}
