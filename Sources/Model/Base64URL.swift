package import Foundation

/// Base64url encoding without padding. Source: RFC 4648 section 5
package enum Base64URL {
  /// Decodes text; returns nil for any text but the canonical encoding.
  package static func decode(_ text: some StringProtocol) -> Data? {
    guard let data = Data(base64Encoded: padded(text)), encode(data) == text else { return nil }
    return data
  }

  package static func encode(_ data: Data) -> String {
    let text = data.base64EncodedString().map { character -> Character in
      switch character {
      case "+": "-"
      case "/": "_"
      default: character
      }
    }
    return String(text.prefix { $0 != "=" })
  }

  private static func padded(_ text: some StringProtocol) -> String {
    let standard = text.map { character -> Character in
      switch character {
      case "-": "+"
      case "_": "/"
      default: character
      }
    }
    return String(standard) + String(repeating: "=", count: (4 - standard.count % 4) % 4)
  }
}
