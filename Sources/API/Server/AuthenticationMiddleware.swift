import ControlPlane
import HTTPTypes
import Hummingbird
import Model

/// Finds out who calls, before anything else of the request is looked at.
struct AuthenticationMiddleware: RouterMiddleware {
  let authenticator: Authenticator
  let origins: OriginPolicy

  func handle(
    _ request: Request, context: APIContext, next: (Request, APIContext) async throws -> Response
  ) async throws -> Response {
    var context = context
    let credentials = try credentials(request)
    if credentials.apiKey == nil, credentials.bearer == nil, credentials.cookie != nil {
      try origins.checkCookie(request, context)
    }
    context.principal = try await authenticator.principal(credentials)
    return try await next(request, context)
  }

  private func credentials(_ request: Request) throws(MartletError) -> PresentedCredentials {
    PresentedCredentials(
      apiKey: request.headers[.apiKey], bearer: try bearer(request.headers[.authorization]),
      cookie: try SessionCookie.token(request))
  }

  /// Source: RFC 6750 section 2.1
  private func bearer(_ header: String?) throws(MartletError) -> String? {
    guard let header else { return nil }
    let parts = header.split(separator: " ", maxSplits: 1)
    guard parts.count == 2, parts[0].lowercased() == "bearer" else {
      throw MartletError(.unauthorized, "Authorization must be Bearer and the token of a session")
    }
    return String(parts[1])
  }
}
