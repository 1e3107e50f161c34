import Connect
import HTTPTypes
package import Hummingbird
import NIOCore
package import SwiftProtobuf

/// Registers the methods of Connect services on a Hummingbird router.
///
/// ```swift
/// let connect = ConnectRouter(router)
/// connect.unary("greet.Greeter", "Greet") { (request: GreetRequest, context) in GreetResponse() }
/// ```
/// Both codecs are supported; compression is refused. A path below a registered service that is not one of its methods
/// gets status 404 and `unimplemented`, an HTTP method other than POST gets 405, an unsupported content type 415.
///
/// A `ConnectError` that a handler throws is sent to the client. `CancellationError` becomes `canceled`; any other
/// error is logged and becomes `internal` without its text.
///
/// Source: https://connectrpc.com/docs/protocol
package struct ConnectRouter<Context: ConnectRequestContext> {
  private let routes: any RouterMethods<Context>
  private let services = RegisteredServices()
  let limits: ConnectLimits

  package init(_ routes: some RouterMethods<Context>, limits: ConnectLimits = ConnectLimits()) {
    self.routes = routes
    self.limits = limits
  }

  /// Registers a method with one request and one response. The handler is cancelled at the call's deadline, but not
  /// when the client disconnects.
  package func unary<Q: Message, R: Message>(
    _ service: String, _ method: String, _ handler: @escaping @Sendable (Q, ConnectContext) async throws -> R
  ) {
    let limits = limits
    register(service, method) { request, context in
      await UnaryCall(request: request, context: context, limits: limits).respond(handler)
    }
  }

  /// Registers a method with one request and a stream of responses. The handler is cancelled when the client
  /// disconnects, even while it writes nothing, and at the deadline; the stream then ends with `deadline_exceeded`
  /// after the handler has returned.
  package func serverStream<Q: Message, R: Message>(
    _ service: String, _ method: String,
    _ handler: @escaping @Sendable (Q, ConnectContext, ConnectWriter<R>) async throws -> Void
  ) {
    bidirectionalStream(service, method) { (requests: ConnectRequests<Q>, context, writer: ConnectWriter<R>) in
      try await handler(requests.single(), context, writer)
    }
  }

  /// Registers a method with a stream of requests and one response. Cancelled like `serverStream`.
  package func clientStream<Q: Message, R: Message>(
    _ service: String, _ method: String,
    _ handler: @escaping @Sendable (ConnectRequests<Q>, ConnectContext) async throws -> R
  ) {
    bidirectionalStream(service, method) { (requests: ConnectRequests<Q>, context, writer: ConnectWriter<R>) in
      try await writer.write(handler(requests, context))
    }
  }

  /// Registers a method with a stream of requests and a stream of responses; HTTP/1.1 clients usually send everything
  /// before they read. Cancelled like `serverStream`.
  package func bidirectionalStream<Q: Message, R: Message>(
    _ service: String, _ method: String,
    _ handler: @escaping @Sendable (ConnectRequests<Q>, ConnectContext, ConnectWriter<R>) async throws -> Void
  ) {
    let limits = limits
    register(service, method) { request, context in
      await StreamCall(request: request, context: context, limits: limits).respond(handler)
    }
  }

  private func register(
    _ service: String, _ method: String, _ respond: @escaping @Sendable (Request, Context) async -> Response
  ) {
    let path = RouterPath(stringLiteral: "/\(service)/\(method)")
    routes.on(path, method: .post, use: respond)
    for other in Self.otherMethods {
      routes.on(path, method: other) { _, _ in Response(status: .methodNotAllowed, headers: [.allow: "POST"]) }
    }
    guard services.insert(service) else { return }
    let catchAll = RouterPath(stringLiteral: "/\(service)/*")
    for method in Self.otherMethods + [.post] {
      routes.on(catchAll, method: method) { request, _ in Self.unknownMethod(request) }
    }
  }

  private static var otherMethods: [HTTPRequest.Method] { [.get, .head, .put, .patch, .delete, .options] }

  private static func unknownMethod(_ request: Request) -> Response {
    let error = ConnectError(
      .unimplemented, "\(request.uri.path.dropFirst().prefix(256)) is not a method of this server")
    return Response(
      status: .notFound, headers: [.contentType: ConnectCodec.json.unaryContentType],
      body: ResponseBody(byteBuffer: error.encoded()))
  }
}

/// The services whose catch-all route exists. Used by one thread, while routes are registered.
private final class RegisteredServices {
  private var names: Set<String> = []

  func insert(_ name: String) -> Bool {
    names.insert(name).inserted
  }
}
