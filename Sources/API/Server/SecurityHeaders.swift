import HTTPTypes
import Hummingbird

/// What browsers are told about every response.
enum SecurityHeaders {
  /// Documents have nothing to load and nobody may frame them; pages take what is ours and nothing else.
  private static let documentPolicy = "default-src 'none'; frame-ancestors 'none'"
  private static let pagePolicy =
    "default-src 'self'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'; "
    + "object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"

  /// Of a JSON document, in one piece: made once, not for every response.
  static let ofJSON: HTTPFields = {
    var headers: HTTPFields = [.contentType: "application/json"]
    add(to: &headers)
    return headers
  }()

  /// Leaves alone what has them already.
  static func add(to headers: inout HTTPFields) {
    guard !headers.contains(.xContentTypeOptions) else { return }
    let isPage = headers[.contentType]?.hasPrefix("text/html") == true
    headers[.xContentTypeOptions] = "nosniff"
    headers[.referrerPolicy] = "no-referrer"
    headers[.frameOptions] = "DENY"
    if headers[.contentSecurityPolicy] == nil {
      headers[.contentSecurityPolicy] = isPage ? pagePolicy : documentPolicy
    }
    if headers[.cacheControl] == nil { headers[.cacheControl] = "no-store" }
  }
}
