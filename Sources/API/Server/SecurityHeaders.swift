import HTTPTypes
import Hummingbird

/// What browsers are told about every response.
enum SecurityHeaders {
  /// Documents have nothing to load and nobody may frame them; pages take what is ours and nothing else.
  private static let documentPolicy = "default-src 'none'; frame-ancestors 'none'"
  private static let pagePolicy =
    "default-src 'self'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'; "
    + "object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"

  static func add(to response: inout Response) {
    let isPage = response.headers[.contentType]?.hasPrefix("text/html") == true
    response.headers[.xContentTypeOptions] = "nosniff"
    response.headers[.referrerPolicy] = "no-referrer"
    response.headers[.frameOptions] = "DENY"
    if response.headers[.contentSecurityPolicy] == nil {
      response.headers[.contentSecurityPolicy] = isPage ? pagePolicy : documentPolicy
    }
    if response.headers[.cacheControl] == nil { response.headers[.cacheControl] = "no-store" }
  }
}

/// Adds them to every response, errors included.
struct SecurityHeadersMiddleware: RouterMiddleware {
  func handle(
    _ request: Request, context: APIContext, next: (Request, APIContext) async throws -> Response
  ) async throws -> Response {
    var response = try await next(request, context)
    // An upgraded connection is no document.
    guard response.status != .switchingProtocols else { return response }
    SecurityHeaders.add(to: &response)
    return response
  }
}
