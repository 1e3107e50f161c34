import HTTPTypes
import Hummingbird
import Logging
import Model

extension HTTPField.Name {
  static let apiKey = Self.known("X-API-Key")
  static let requestID = Self.known("X-Request-Id")
  static let nextCursor = Self.known("X-Next-Cursor")
  static let allowedMethods = Self.known("Allow")
  static let retryAfter = Self.known("Retry-After")
  static let idempotencyKey = Self.known("Idempotency-Key")
  static let forwardedFor = Self.known("X-Forwarded-For")
  static let forwarded = Self.known("Forwarded")
  static let via = Self.known("Via")
  static let forwardedProtocol = Self.known("X-Forwarded-Proto")
  /// Header fields that proxies add to forwarded requests.
  static let proxyHeaders = [
    forwardedFor, forwarded, via, forwardedProtocol, known("X-Forwarded-Host"), known("X-Forwarded-Port"),
    known("X-Real-IP"),
  ]
  static let frameOptions = Self.known("X-Frame-Options")
  static let referrerPolicy = Self.known("Referrer-Policy")

  private static func known(_ name: String) -> HTTPField.Name {
    guard let name = HTTPField.Name(name) else { preconditionFailure("\(name) is not a header name") }
    return name
  }
}

/// Converts errors to error responses; adds the request id and the security headers to every response.
struct ResponseMiddleware: RouterMiddleware {
  let routes: RouteTable

  func handle(
    _ request: Request, context: APIContext, next: (Request, APIContext) async throws -> Response
  ) async throws -> Response {
    var response: Response
    do {
      response = try await next(request, context)
    } catch {
      response = errorResponse(error, request, context)
    }
    // A WebSocket upgrade carries no document.
    if response.status != .switchingProtocols { SecurityHeaders.add(to: &response.headers) }
    response.headers[.requestID] = context.requestID
    return response
  }

  private func errorResponse(_ error: any Error, _ request: Request, _ context: APIContext) -> Response {
    if (error as? HTTPError)?.status == .notFound, let other = wrongMethod(request) { return other }
    let failure = ErrorResponse.martletError(error)
    log(failure, request, context)
    return ErrorResponse.response(for: failure)
  }

  private func wrongMethod(_ request: Request) -> Response? {
    let methods = routes.methods(for: request.uri.path)
    guard !methods.isEmpty else { return nil }
    let list = methods.joined(separator: ", ")
    let error = MartletError(
      .methodNotAllowed, "this route does not support \(Self.shown(request.method)); it supports \(list)")
    var response = ErrorResponse.response(for: error)
    response.headers[.allowedMethods] = list
    return response
  }

  private static func shown(_ method: HTTPRequest.Method) -> String {
    String(method.rawValue.prefix(16))
  }

  private func log(_ error: MartletError, _ request: Request, _ context: APIContext) {
    let level: Logger.Level
    switch error.code {
    case .internalError, .outcomeUnknown: level = .error
    case .agentError, .hostUnavailable, .databaseUnavailable, .noHostsAvailable, .insufficientStorage: level = .warning
    default: level = .debug
    }
    context.logger.log(
      level: level, "request failed",
      metadata: [
        "request.id": "\(context.requestID)", "http.route": "\(context.endpointPath ?? "")", "error": "\(error)",
      ])
  }
}
