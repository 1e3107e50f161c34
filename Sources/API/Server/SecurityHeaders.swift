import HTTPTypes
import Hummingbird

/// Security headers of every response.
enum SecurityHeaders {
  /// Data documents may load nothing and may not be framed; pages may load only the server's own files.
  private static let documentPolicy = "default-src 'none'; frame-ancestors 'none'"
  private static let pagePolicy =
    "default-src 'self'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    + "connect-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"

  /// All headers of a JSON document; computed once.
  static let ofJSON: HTTPFields = {
    var headers: HTTPFields = [.contentType: "application/json"]
    add(to: &headers)
    return headers
  }()

  /// Adds the headers, unless the response already has them.
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
