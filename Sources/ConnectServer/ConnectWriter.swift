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

/// Delays the head of a streamed response until the first frame is ready, and the frame until the head has been sent.
///
/// Some HTTP clients (hyper, and so the E2B SDK) stop sending a request's body as soon as they have received the
/// response head. If the head were sent at once, requests would be truncated: measured, one in twenty calls arrived
/// empty, and streamed input would be lost without an error. No handler writes before it has read what it needs, so the
/// head is sent with its first frame.
///
/// `@unchecked Sendable` because Hummingbird's writer is not marked `Sendable`. Hummingbird's root writer is a value
/// without mutable state around NIO's thread-safe outbound writer, and every caller works on its own copy.
final class HeadGate: @unchecked Sendable {
  private struct State {
    var hasFrame = false
    var isAbandoned = false
    var writer: (any ResponseBodyWriter)?
    var headWaiter: CheckedContinuation<Void, Never>?
    var writeWaiters: [CheckedContinuation<Void, Never>] = []

    var isSettled: Bool { writer != nil || isAbandoned }
  }

  /// Held by the response. Opens the gate when the body is written; fails the waiting writers when the response is
  /// dropped unwritten.
  final class Key: Sendable {
    private let gate: HeadGate

    init(_ gate: HeadGate) {
      self.gate = gate
    }

    func open(_ writer: any ResponseBodyWriter) {
      gate.settle { $0.writer = writer }
    }

    deinit {
      gate.settle { $0.isAbandoned = true }
    }
  }

  private let lock = Mutex(())
  private var state = State()

  /// Returns when the response head may be sent.
  func waitForFrame() async {
    await withCheckedContinuation { continuation in
      let hasFrame = lock.withLock { _ in
        if !state.hasFrame { state.headWaiter = continuation }
        return state.hasFrame
      }
      if hasFrame { continuation.resume() }
    }
  }

  /// Lets the response head be sent. Idempotent.
  func releaseHead() {
    let waiter = lock.withLock { _ in
      state.hasFrame = true
      defer { state.headWaiter = nil }
      return state.headWaiter
    }
    waiter?.resume()
  }

  /// Lets the response head be sent and returns the connection's writer. The writer is available soon afterwards,
  /// unless the response is dropped.
  /// - Throws: `CancellationError` when the response was dropped.
  func writer() async throws -> any ResponseBodyWriter {
    releaseHead()
    if !lock.withLock({ _ in state.isSettled }) { await waitUntilSettled() }
    guard let writer = lock.withLock({ _ in state.writer }) else { throw CancellationError() }
    return writer
  }

  private func waitUntilSettled() async {
    await withCheckedContinuation { continuation in
      let isSettled = lock.withLock { _ in
        if !state.isSettled { state.writeWaiters.append(continuation) }
        return state.isSettled
      }
      if isSettled { continuation.resume() }
    }
  }

  private func settle(_ change: (inout State) -> Void) {
    let waiters = lock.withLock { _ in
      change(&state)
      defer { state.writeWaiters = [] }
      return state.writeWaiters
    }
    for waiter in waiters { waiter.resume() }
  }
}
