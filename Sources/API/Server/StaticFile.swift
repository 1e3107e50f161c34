import Crypto
import HTTPTypes
import Hummingbird
import NIOCore

/// A file that does not change while the server runs.
///
/// It carries a strong entity tag, so that a browser that has it asks only whether it is still the same. Source: RFC
/// 9110 section 8.8.3
struct StaticFile: Sendable {
  private static let tagDigits = 32

  let contentType: String
  let policy: String?
  /// Digits of the content's digest.
  let tag: String
  private let body: ByteBuffer

  /// - Parameter policy: Content-Security-Policy of a page; the one of documents when nil.
  init(_ body: ByteBuffer, contentType: String, policy: String? = nil) {
    self.body = body
    self.contentType = contentType
    self.policy = policy
    tag = String(
      SHA256.hash(data: body.readableBytesView).map { byte in Self.hexadecimal(byte) }.joined().prefix(Self.tagDigits))
  }

  /// A request for a version, which is a tag, gets an answer that is good for ever when it is this one.
  func response(to request: Request) -> Response {
    let isThisVersion = request.uri.queryParameters["v"].map { $0 == tag } ?? false
    var headers: HTTPFields = [
      .contentType: contentType, .eTag: "\"\(tag)\"",
      .cacheControl: isThisVersion ? "public, max-age=31536000, immutable" : "no-cache",
    ]
    if let policy { headers[.contentSecurityPolicy] = policy }
    if isKnown(to: request) { return Response(status: .notModified, headers: headers) }
    return Response(status: .ok, headers: headers, body: ResponseBody(byteBuffer: body))
  }

  private func isKnown(to request: Request) -> Bool {
    request.headers[values: .ifNoneMatch].contains { line in
      line.split(separator: ",").contains { $0.trimmingPrefix { $0 == " " }.prefix { $0 != " " } == "\"\(tag)\"" }
    }
  }

  private static func hexadecimal(_ byte: UInt8) -> String {
    (byte < 16 ? "0" : "") + String(byte, radix: 16)
  }
}
