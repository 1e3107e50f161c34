import HTTPTypes
import Hummingbird
import Model

/// Keeps other sites' pages from using a browser's session (L-66).
///
/// SameSite alone does not: pages that a sandbox serves under a name of our domain are of the same site. What a browser
/// sends along with the session cookie is obeyed only when its `Origin` is ours, and reading is all that needs none.
struct OriginPolicy: Sendable {
  /// Other origins that may do what our own may.
  let allowsOrigin: @Sendable (String) -> Bool

  /// For a request whose only credential is the cookie.
  /// - Throws: `forbidden`.
  func checkCookie(_ request: Request, _ context: APIContext) throws(MartletError) {
    let isReading = [.get, .head].contains(request.method) && request.headers[.upgrade] == nil
    if isReading, request.headers[.origin] == nil { return }
    guard isOurs(request, context) else { throw Self.refusal }
  }

  /// Browsers always name the origin of a WebSocket; other programs never do.
  /// - Throws: `forbidden`.
  func checkWebSocket(_ request: Request, _ context: APIContext) throws(MartletError) {
    guard request.headers[.origin] == nil || isOurs(request, context) else { throw Self.refusal }
  }

  /// Whether a page of ours asks.
  func isOurs(_ request: Request, _ context: APIContext) -> Bool {
    let origins = request.headers[values: .origin]
    guard origins.count == 1, let origin = origins.first else { return false }
    if allowsOrigin(origin) { return true }
    guard let authority = request.head.authority, !authority.isEmpty else { return false }
    return origin.lowercased() == "\(context.client.isSecure ? "https" : "http")://\(authority)".lowercased()
  }

  private static var refusal: MartletError {
    MartletError(
      .forbidden,
      "this origin may not use sessions here; behind a proxy with TLS, name the proxy in MARTLET_TRUSTED_PROXIES")
  }
}
