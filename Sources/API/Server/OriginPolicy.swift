import HTTPTypes
import Hummingbird
import Model

/// Prevents pages of other sites from using a browser's session (cross-site request forgery).
///
/// The cookie attribute `SameSite` is not sufficient: pages that a sandbox serves under a name of the server's domain
/// belong to the same site. A request that only the session cookie authenticates must have the server's own `Origin`,
/// unless it is a GET or HEAD without an `Origin`.
struct OriginPolicy: Sendable {
  let names: ServerNames
  /// Whether another origin has the rights of the server's own origin.
  let allowsOrigin: @Sendable (String) -> Bool

  /// Checks a request whose only credential is the session cookie.
  /// - Throws: `forbidden`.
  func checkCookie(_ request: Request, _ context: APIContext) throws(MartletError) {
    let isRead = [.get, .head].contains(request.method) && request.headers[.upgrade] == nil
    if isRead, request.headers[.origin] == nil { return }
    guard isOwnOrigin(request, context) else { throw Self.refusal }
  }

  /// Checks a WebSocket request. Browsers always send `Origin` with it; other programs send none.
  /// - Throws: `forbidden`.
  func checkWebSocket(_ request: Request, _ context: APIContext) throws(MartletError) {
    guard request.headers[.origin] == nil || isOwnOrigin(request, context) else { throw Self.refusal }
  }

  /// Whether a page of the server's own origin, or of an allowed one, sent the request.
  func isOwnOrigin(_ request: Request, _ context: APIContext) -> Bool {
    let origins = request.headers[values: .origin]
    guard origins.count == 1, let origin = origins.first else { return false }
    if allowsOrigin(origin) || names.isPublicOrigin(origin) { return true }
    guard let authority = request.head.authority, !authority.isEmpty else { return false }
    return origin.lowercased() == "\(context.client.isSecure ? "https" : "http")://\(authority)".lowercased()
  }

  private static var refusal: MartletError {
    MartletError(
      .forbidden,
      "pages of this origin may not use session cookies; if a TLS proxy forwards the request, list the proxy in "
        + "MARTLET_TRUSTED_PROXIES")
  }
}
