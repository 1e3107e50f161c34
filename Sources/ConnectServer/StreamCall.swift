import Connect
import HTTPTypes
import Hummingbird
import HummingbirdCore
import Logging
import NIOCore
import SwiftProtobuf

/// One call with a stream in at least one direction. The HTTP status is always 200; errors are sent in the last frame.
/// The response head is sent together with the first frame (`HeadGate`).
struct StreamCall<Context: ConnectRequestContext>: Sendable {
  typealias Handler<Q: Message, R: Message> =
    @Sendable (ConnectRequests<Q>, ConnectContext, ConnectWriter<R>) async throws -> Void

  let request: Request
  let context: Context
  let limits: ConnectLimits

  func respond<Q: Message, R: Message>(_ handler: @escaping Handler<Q, R>) async -> Response {
    guard let codec = request.headers[.contentType].flatMap(ConnectCodec.init(streamContentType:)) else {
      return .unsupportedMediaType(ConnectCodec.allCases.map(\.streamContentType))
    }
    let gate = HeadGate()
    // An unstructured task, because it produces the body while this function still delays the response head.
    let call = Task {
      defer { gate.releaseHead() }
      try await run(codec, FrameSink(gate, eventLoop: context.channel.eventLoop), handler)
    }
    await withTaskCancellationHandler {
      await gate.waitForFrame()
    } onCancel: {
      call.cancel()
    }
    return Response(
      status: .ok, headers: [.contentType: codec.streamContentType], body: Self.body(call, HeadGate.Key(gate)))
  }

  private static func body(_ call: Task<Void, any Error>, _ key: HeadGate.Key) -> ResponseBody {
    ResponseBody { writer in
      key.open(writer)
      try await withTaskCancellationHandler {
        try await call.value
      } onCancel: {
        call.cancel()
      }
    }
  }

  private func run<Q: Message, R: Message>(
    _ codec: ConnectCodec, _ sink: FrameSink, _ handler: @escaping Handler<Q, R>
  ) async throws {
    let head: CallHead
    do {
      head = try CallHead(
        codec: codec, headers: request.headers, encodingHeaders: [.contentEncoding, .connectContentEncoding], now: .now)
    } catch {
      return try await sink.finish(error)
    }
    try await run(head, sink, handler)
  }

  private func run<Q: Message, R: Message>(
    _ head: CallHead, _ sink: FrameSink, _ handler: @escaping Handler<Q, R>
  ) async throws {
    let call = ConnectContext(request: request, context: context, deadline: head.deadline)
    let requests = ConnectRequests<Q>(
      body: request.body, codec: head.codec, maximumMessageBytes: limits.maximumMessageBytes)
    let writer = ConnectWriter<R>(sink: sink, codec: head.codec)
    let outcome = await CallScope.run(on: context.channel, until: head.deadline, watchingClient: true) {
      try await handler(requests, call, writer)
    }
    switch outcome {
    case .finished(.success): try await sink.finish(nil)
    case .finished(.failure(let error)):
      try await sink.finish(ConnectError(thrownByHandler: error, logger: context.logger))
    case .ended(.deadlinePassed): try await sink.finish(.deadlineExceeded)
    case .ended(.clientDisconnected):
      sink.abandon()
      throw CancellationError()
    }
  }
}
