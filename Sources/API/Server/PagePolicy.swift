import Crypto
import Foundation

/// What a page of ours may do in a browser: nothing that is not named here.
enum PagePolicy {
  private static let always = "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

  /// For a page that is one file: its own script and style run because their digests are named, and nothing that gets
  /// into the page does.
  ///
  /// Source: Content Security Policy Level 3, section 2.3.1 (hash-source)
  static func selfContained(_ html: String) -> String {
    "default-src 'none'; script-src \(digests("script", html)); style-src \(digests("style", html)); img-src data:; connect-src 'self'; "
      + always
  }

  /// For Swagger UI: files of the server, and the pictures that are written into its style sheet.
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
