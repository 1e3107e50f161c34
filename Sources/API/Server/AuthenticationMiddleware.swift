import ControlPlane
import HTTPTypes
import Hummingbird
import Model
import Persistence

/// Authenticates the caller before any other part of the request is processed.
struct AuthenticationMiddleware: RouterMiddleware {
  let authenticator: Authenticator
  let origins: OriginPolicy

  func handle(
    _ request: Request, context: APIContext, next: (Request, APIContext) async throws -> Response
  ) async throws -> Response {
    var context = context
    let authenticated = try await authenticator.authenticate(try origins.credentials(of: request, context))
    context.principal = authenticated.value
    context.version = authenticated.version
    return try await next(request, context)
  }
}

/// Admits programs on this machine without credentials, and from other machines only administrators.
///
/// A request that a proxy forwards counts as remote, even if the proxy runs on this machine.
struct OperatorMiddleware: RouterMiddleware {
  let authenticator: Authenticator
  let origins: OriginPolicy

  func handle(
    _ request: Request, context: APIContext, next: (Request, APIContext) async throws -> Response
  ) async throws -> Response {
    if Self.isLocal(request, context) { return try await next(request, context) }
    var context = context
    context.principal = try await authenticator.administrator(try origins.credentials(of: request, context))
    return try await next(request, context)
  }

  /// The name in the request must be one of loopback's too: a web page whose name leads to this machine (DNS rebinding)
  /// comes from a browser here, under a name of its own.
  private static func isLocal(_ request: Request, _ context: APIContext) -> Bool {
    context.client.isLoopback && !context.client.isProxied
      && !HTTPField.Name.proxyHeaders.contains { request.headers[$0] != nil }
      && LoopbackName.isOne(request.head.authority)
  }
}

/// Names by which a program reaches this machine and that no name server can give to another one.
enum LoopbackName {
  /// - Parameter authority: of a request, such as `localhost:8080` or `[::1]:8080`. Without one the request is of
  ///   HTTP/1.0, which no browser sends.
  static func isOne(_ authority: String?) -> Bool {
    guard let authority, !authority.isEmpty else { return true }
    let host = host(of: authority).lowercased()
    if host == "localhost" || host == "localhost." { return true }
    guard let address = IPAddressText.normal(host) else { return false }
    return address == "::1" || address.hasPrefix("127.")
  }

  private static func host(of authority: String) -> String {
    if authority.hasPrefix("["), let end = authority.firstIndex(of: "]") {
      return String(authority[authority.index(after: authority.startIndex)..<end])
    }
    return String(authority.prefix { $0 != ":" })
  }
}

extension OriginPolicy {
  /// Extracts the credentials of a request, unverified.
  /// - Throws: `unauthorized` for malformed credentials; `forbidden` if a page of another origin sent the session
  ///   cookie.
  func credentials(of request: Request, _ context: APIContext) throws(MartletError) -> PresentedCredentials {
    let credentials = PresentedCredentials(
      apiKey: request.headers[.apiKey], bearer: try bearer(request.headers[.authorization]),
      cookie: try SessionCookie.token(request, isSecure: context.client.isSecure), source: context.client.address)
    if credentials.apiKey == nil, credentials.bearer == nil, credentials.cookie != nil {
      try checkCookie(request, context)
    }
    return credentials
  }

  /// Source: RFC 6750 section 2.1
  private func bearer(_ header: String?) throws(MartletError) -> String? {
    guard let header else { return nil }
    let parts = header.split(separator: " ", maxSplits: 1)
    guard parts.count == 2, parts[0].lowercased() == "bearer" else {
      throw MartletError(.unauthorized, "the Authorization header must be Bearer followed by a session token")
    }
    return String(parts[1])
  }
}
