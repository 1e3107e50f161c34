import Crypto
import HTTPTypes
import Hummingbird
import Model
import NIOCore

/// A response body that does not change while the server runs.
///
/// It has a strong entity tag, so that a browser can revalidate its copy without a download. Source: RFC 9110 section
/// 8.8.3
struct StaticFile: Sendable {
  private static let tagDigits = 32

  let contentType: String
  let policy: String?
  /// Entity tag: the first hexadecimal digits of the content's SHA-256.
  let tag: String
  private let body: ByteBuffer

  /// - Parameter policy: Content-Security-Policy; nil for the default of data documents.
  init(_ body: ByteBuffer, contentType: String, policy: String? = nil) {
    self.body = body
    self.contentType = contentType
    self.policy = policy
    tag = String(
      Hexadecimal.text(SHA256.hash(data: body.readableBytesView)).prefix(Self.tagDigits))
  }

  /// Responds with the content, or with 304 if the client has it. If the query parameter `v` equals the tag, the
  /// response may be cached for ever.
  func response(to request: Request) -> Response {
    let isThisVersion = request.uri.queryParameters["v"].map { $0 == tag } ?? false
    var headers: HTTPFields = [
      .contentType: contentType, .eTag: "\"\(tag)\"",
      .cacheControl: isThisVersion ? "public, max-age=31536000, immutable" : "no-cache",
    ]
    if let policy { headers[.contentSecurityPolicy] = policy }
    if isCached(to: request) { return Response(status: .notModified, headers: headers) }
    return Response(status: .ok, headers: headers, body: ResponseBody(byteBuffer: body))
  }

  private func isCached(to request: Request) -> Bool {
    request.headers[values: .ifNoneMatch].contains { line in
      line.split(separator: ",").contains { $0.trimmingPrefix { $0 == " " }.prefix { $0 != " " } == "\"\(tag)\"" }
    }
  }
}
