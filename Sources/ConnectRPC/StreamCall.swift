import HTTPTypes
import Hummingbird
import HummingbirdCore
import Logging
import NIOCore
import SwiftProtobuf

/// One call with a stream in at least one direction. The status is always 200; errors travel in the last frame.
struct StreamCall<Context: ConnectRequestContext>: Sendable {
  typealias Handler<Q: Message, R: Message> =
    @Sendable (ConnectRequests<Q>, ConnectContext, ConnectWriter<R>) async throws -> Void

  let request: Request
  let context: Context
  let limits: ConnectLimits

  func respond<Q: Message, R: Message>(_ handler: @escaping Handler<Q, R>) -> Response {
    guard let codec = request.headers[.contentType].flatMap(ConnectCodec.init(streamContentType:)) else {
      return .unsupportedMediaType(ConnectCodec.allCases.map(\.streamContentType))
    }
    let head = Result { () throws(ConnectError) in
      try CallHead(
        codec: codec, headers: request.headers, encodingHeaders: [.contentEncoding, .connectContentEncoding], now: .now)
    }
    let body = ResponseBody { writer in
      let sink = FrameSink(writer, eventLoop: context.channel.eventLoop)
      switch head {
      case .success(let head): try await run(head, sink, handler)
      case .failure(let error): try await sink.finish(error)
      }
    }
    return Response(status: .ok, headers: [.contentType: codec.streamContentType], body: body)
  }

  private func run<Q: Message, R: Message>(_ head: CallHead, _ sink: FrameSink, _ handler: @escaping Handler<Q, R>) async throws {
    let call = ConnectContext(request: request, context: context, deadline: head.deadline)
    let requests = ConnectRequests<Q>(body: request.body, codec: head.codec, maximumMessageBytes: limits.maximumMessageBytes)
    let writer = ConnectWriter<R>(sink: sink, codec: head.codec)
    let outcome = await CallScope.run(on: context.channel, until: head.deadline, watchingClient: true) {
      try await handler(requests, call, writer)
    }
    switch outcome {
    case .finished(.success): try await sink.finish(nil)
    case .finished(.failure(let error)): try await sink.finish(ConnectError(thrownByHandler: error, logger: context.logger))
    case .ended(.deadlinePassed): try await sink.finish(.deadlineExceeded)
    case .ended(.clientGone):
      sink.abandon()
      throw CancellationError()
    }
  }
}
