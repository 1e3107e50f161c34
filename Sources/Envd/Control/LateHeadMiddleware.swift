import HTTPTypes
package import Hummingbird
import HummingbirdCore
import NIOCore
import Synchronization

/// Holds the head of a streamed RPC answer back until its first frame is there.
///
/// Some HTTP clients (hyper, and with it the E2B SDK) stop sending a request's body as soon as they have seen the head of the
/// answer. A head that leaves at once then cuts requests short: measured, one in twenty Starts arrived empty, and streamed
/// input would be lost without an error. No handler writes before it has read what it needs, so its first frame is the moment.
package struct LateHeadMiddleware: RouterMiddleware {
  package typealias Context = AgentRequestContext

  private static let streamTypePrefix = "application/connect+"

  package init() {}

  package func handle(
    _ request: Request, context: AgentRequestContext, next: (Request, AgentRequestContext) async throws -> Response
  ) async throws -> Response {
    let response = try await next(request, context)
    guard response.headers[.contentType]?.hasPrefix(Self.streamTypePrefix) == true else { return response }
    let gate = ResponseGate()
    let body = response.body
    // A task of its own, because the body is written from here on while this function still waits to return.
    let writing = Task {
      defer { gate.announceFrame() }
      try await body.write(GatedWriter(gate: gate))
    }
    await withTaskCancellationHandler {
      await gate.waitForFrame()
    } onCancel: {
      writing.cancel()
    }
    return Response(status: response.status, headers: response.headers, body: Self.body(gate, writing))
  }

  private static func body(_ gate: ResponseGate, _ writing: Task<Void, any Error>) -> ResponseBody {
    let key = ResponseGate.Key(gate)
    return ResponseBody { writer in
      key.open(writer)
      try await withTaskCancellationHandler {
        try await writing.value
      } onCancel: {
        writing.cancel()
      }
    }
  }
}

/// Where a held-back body and the connection's writer meet.
///
/// Unchecked, because Hummingbird's writer does not say that it is `Sendable`; its root writer is a value around NIO's
/// thread-safe outbound writer, and every call works on a copy of its own.
private final class ResponseGate: @unchecked Sendable {
  private struct State {
    var hasFrame = false
    var isAbandoned = false
    var writer: (any ResponseBodyWriter)?
    var headWaiter: CheckedContinuation<Void, Never>?
    var writeWaiters: [CheckedContinuation<Void, Never>] = []
  }

  /// Opens the gate, or fails those who wait when the answer is dropped without having been written.
  final class Key: Sendable {
    private let gate: ResponseGate

    init(_ gate: ResponseGate) {
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

  /// Lets the head go.
  func announceFrame() {
    let waiter = lock.withLock { _ in
      state.hasFrame = true
      defer { state.headWaiter = nil }
      return state.headWaiter
    }
    waiter?.resume()
  }

  func waitForFrame() async {
    await withCheckedContinuation { continuation in
      let isThere = lock.withLock { _ in
        if !state.hasFrame { state.headWaiter = continuation }
        return state.hasFrame
      }
      if isThere { continuation.resume() }
    }
  }

  /// Waits for the connection's writer. It comes, or the answer is dropped, soon after the head was let go.
  /// - Throws: `CancellationError` when the answer was dropped.
  func writer() async throws -> any ResponseBodyWriter {
    announceFrame()
    await withCheckedContinuation { continuation in
      let isSettled = lock.withLock { _ in
        let isSettled = state.writer != nil || state.isAbandoned
        if !isSettled { state.writeWaiters.append(continuation) }
        return isSettled
      }
      if isSettled { continuation.resume() }
    }
    guard let writer = lock.withLock({ _ in state.writer }) else { throw CancellationError() }
    return writer
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

private struct GatedWriter: ResponseBodyWriter {
  let gate: ResponseGate

  mutating func write(_ buffer: ByteBuffer) async throws {
    var writer = try await gate.writer()
    try await writer.write(buffer)
  }

  consuming func finish(_ trailingHeaders: HTTPFields?) async throws {
    let writer = try await gate.writer()
    try await writer.finish(trailingHeaders)
  }
}
