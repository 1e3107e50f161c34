import Crypto
import Foundation

/// Content security policies of the server's HTML pages; they permit only the listed sources.
enum PagePolicy {
  private static let always = "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

  /// For a page in a single file: permits the inline script and style by their digests, so that injected ones do not
  /// run.
  ///
  /// Source: Content Security Policy Level 3, section 2.3.1 (hash-source)
  static func selfContained(_ html: String) -> String {
    "default-src 'none'; script-src \(digests("script", html)); style-src \(digests("style", html)); "
      + "img-src data:; connect-src 'self'; " + always
  }

  /// For Swagger UI: permits files of the server, and the `data:` images in its style sheet.
  static let documentation =
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; " + always

  private static func digests(_ element: String, _ html: String) -> String {
    let parts = html.components(separatedBy: "<\(element)>").dropFirst().compactMap {
      $0.components(separatedBy: "</\(element)>").first
    }
    guard !parts.isEmpty else { return "'none'" }
    return parts.map { "'sha256-\(Data(SHA256.hash(data: Data($0.utf8))).base64EncodedString())'" }.joined(
      separator: " ")
  }
}
