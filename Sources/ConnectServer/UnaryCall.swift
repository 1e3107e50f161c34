package import Connect
import HTTPTypes
import Hummingbird
package import HummingbirdCore
import Logging
import NIOCore
import SwiftProtobuf

/// One call with one request message and one response message.
struct UnaryCall<Context: ConnectRequestContext>: Sendable {
  let request: Request
  let context: Context
  let limits: ConnectLimits

  func respond<Q: Message, R: Message>(
    _ handler: @escaping @Sendable (Q, ConnectContext) async throws -> R
  ) async -> Response {
    guard let codec = request.headers[.contentType].flatMap(ConnectCodec.init(unaryContentType:)) else {
      return .unsupportedMediaType(ConnectCodec.allCases.map(\.unaryContentType))
    }
    do {
      let head = try CallHead(codec: codec, headers: request.headers, encodingHeaders: [.contentEncoding], now: .now)
      let response = try await run(head, handler)
      return Response(
        status: .ok, headers: [.contentType: codec.unaryContentType],
        body: ResponseBody(byteBuffer: try codec.encode(response)))
    } catch {
      return Response(ConnectError(thrownByHandler: error, logger: context.logger))
    }
  }

  private func run<Q: Message, R: Message>(
    _ head: CallHead, _ handler: @escaping @Sendable (Q, ConnectContext) async throws -> R
  ) async throws -> R {
    let call = ConnectContext(request: request, context: context, deadline: head.deadline)
    let receive = { @Sendable in
      let message: Q = try await head.codec.decode(from: collectBody())
      return try await handler(message, call)
    }
    guard let deadline = head.deadline else { return try await receive() }
    switch await CallScope.run(on: context.channel, until: deadline, watchingClient: false, receive) {
    case .finished(let result): return try result.get()
    case .ended: throw ConnectError.deadlineExceeded
    }
  }

  private func collectBody() async throws -> ByteBuffer {
    do {
      return try await request.body.collect(upTo: limits.maximumMessageBytes)
    } catch is NIOTooManyBytesError {
      throw ConnectError(
        .resourceExhausted, "the message is longer than the limit of \(limits.maximumMessageBytes) bytes")
    }
  }
}

extension ConnectContext {
  init(request: Request, context: some ConnectRequestContext, deadline: ContinuousClock.Instant?) {
    self.init(
      headers: request.headers, deadline: deadline, remoteAddress: context.channel.remoteAddress, logger: context.logger
    )
  }
}

extension ConnectError {
  static var deadlineExceeded: ConnectError { ConnectError(.deadlineExceeded, "the call's time-out has passed") }

  /// Maps an error that a handler threw to the error that is sent to the client.
  init(thrownByHandler error: any Error, logger: Logger) {
    switch error {
    case let error as ConnectError:
      self = error
    case is CancellationError:
      self.init(.canceled, "the call was canceled")
    default:
      logger.error("connect handler failed", metadata: ["error": "\(error)"])
      self.init(.internalError, "an internal error occurred")
    }
  }
}

extension Response {
  /// The response to a failed unary call, or to a failed plain HTTP request of the same server.
  package init(_ error: ConnectError) {
    self.init(
      status: HTTPResponse.Status(code: error.code.httpStatus),
      headers: [.contentType: ConnectCodec.json.unaryContentType],
      body: ResponseBody(byteBuffer: error.encoded()))
  }

  static func unsupportedMediaType(_ accepted: [String]) -> Response {
    Response(status: .unsupportedMediaType, headers: [.acceptPost: accepted.joined(separator: ", ")])
  }
}
