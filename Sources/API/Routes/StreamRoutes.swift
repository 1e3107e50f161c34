import ControlPlane
import HostAPI
import Hummingbird
import Model
import WebSocket

/// The WebSocket routes. The caller is authenticated and the sandbox's existence and state are checked before the
/// upgrade, so that these errors are ordinary HTTP responses.
struct StreamRoutes {
  let service: SandboxService
  let authenticator: Authenticator
  let origins: OriginPolicy
  let touchInterval: Duration

  func register(_ routes: RouteRegistrar) {
    routes.get("/sandboxes/:id/exec/stream") { request, context in
      try await open(request, context, .exec) { nil }
    }
    routes.get("/sandboxes/:id/pty") { request, context in
      try await open(request, context, .terminal) { nil }
    }
    routes.get("/sandboxes/:id/processes/:selector/stream") { request, context in
      try await open(request, context, .exec) { try attachment(request, context) }
    }
  }

  private func open(
    _ request: Request, _ context: APIContext, _ dialect: StreamDialect, _ opening: () throws -> StreamOpening?
  ) async throws -> Response {
    let (id, caller) = (try context.sandboxID(), try context.caller())
    let opening = try opening()
    let headers = try handshake(request, context)
    try await service.requireRunning(id, for: caller)
    let stream = ProcessStream(
      service: service, authenticator: authenticator, touchInterval: touchInterval, id: id, caller: caller,
      dialect: dialect)
    return WebSocketSession.response(
      headers: headers, body: request.body, channel: context.channel, maximumMessageBytes: Limits.webSocketFrameBytes
    ) { inbound, outbound in
      try await stream.run(opening, inbound, outbound)
    }
  }

  private func handshake(_ request: Request, _ context: APIContext) throws -> HTTPFields {
    try origins.checkWebSocket(request, context)
    switch WebSocketHandshake.examine(request.head) {
    case .accepted(let headers): return headers
    case .malformed(let sentence): throw MartletError(.invalidRequest, sentence)
    case .notRequested:
      throw MartletError(.invalidRequest, "this route is a WebSocket; send an Upgrade: websocket request")
    }
  }

  /// An attachment to a running process, which continues when the client disconnects.
  private func attachment(_ request: Request, _ context: APIContext) throws -> StreamOpening {
    let selector = try ProcessSelector(context.parameters.get("selector") ?? "")
    let binary = request.uri.queryParameters["binary"]
    return StreamOpening(subject: .attach(selector), isDetached: true, isBinary: binary == "true" || binary == "1")
  }
}
