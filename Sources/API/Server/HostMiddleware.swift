import HTTPTypes
import Hummingbird
import Model

/// Refuses requests that address another server, before any route and before anything of the body is read.
struct HostMiddleware: RouterMiddleware {
  let names: ServerNames

  /// - Throws: `invalid_request` without a `Host`, `misdirected_request` for a name that is not this server's.
  func handle(
    _ request: Request, context: APIContext, next: (Request, APIContext) async throws -> Response
  ) async throws -> Response {
    guard let host = request.head.authority, !host.isEmpty else {
      throw MartletError(.invalidRequest, "the request has no Host header; HTTP/1.1 requires one")
    }
    guard names.accepts(host: host, localAddress: context.channel.localAddress) else {
      throw MartletError(
        .misdirectedRequest,
        "the Host header is not a name of this server; an operator can add it to MARTLET_PUBLIC_HOSTS")
    }
    return try await next(request, context)
  }
}
