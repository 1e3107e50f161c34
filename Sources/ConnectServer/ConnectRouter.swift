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
/// Both codecs are answered, compression is refused and never used. A path below a known service that is no method of
/// it is answered with 404 and `unimplemented`, a method other than POST with 405, a foreign content type with 415.
///
/// A handler that throws a `ConnectError` passes it to the client. `CancellationError` becomes `canceled`; any other
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

  /// One request, one answer. The handler is cancelled at the call's deadline, not when the client goes away.
  package func unary<Q: Message, R: Message>(
    _ service: String, _ method: String, _ handler: @escaping @Sendable (Q, ConnectContext) async throws -> R
  ) {
    let limits = limits
    register(service, method) { request, context in
      await UnaryCall(request: request, context: context, limits: limits).respond(handler)
    }
  }

  /// One request, many answers. The handler is cancelled when the client goes away, also while it writes nothing, and
  /// at the deadline; the stream then ends with `deadline_exceeded`, after the handler has returned.
  package func serverStream<Q: Message, R: Message>(
    _ service: String, _ method: String,
    _ handler: @escaping @Sendable (Q, ConnectContext, ConnectWriter<R>) async throws -> Void
  ) {
    bidirectionalStream(service, method) { (requests: ConnectRequests<Q>, context, writer: ConnectWriter<R>) in
      try await handler(requests.single(), context, writer)
    }
  }

  /// Many requests, one answer. Cancelled like `serverStream`.
  package func clientStream<Q: Message, R: Message>(
    _ service: String, _ method: String,
    _ handler: @escaping @Sendable (ConnectRequests<Q>, ConnectContext) async throws -> R
  ) {
    bidirectionalStream(service, method) { (requests: ConnectRequests<Q>, context, writer: ConnectWriter<R>) in
      try await writer.write(handler(requests, context))
    }
  }

  /// Many requests, many answers; with HTTP/1.1 clients usually one after the other. Cancelled like `serverStream`.
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
    let anything = RouterPath(stringLiteral: "/\(service)/*")
    for method in Self.otherMethods + [.post] {
      routes.on(anything, method: method) { request, _ in Self.unknownMethod(request) }
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

/// Services whose catch-all route exists. Only touched while routes are registered, by one thread.
private final class RegisteredServices {
  private var names: Set<String> = []

  func insert(_ name: String) -> Bool {
    names.insert(name).inserted
  }
}
