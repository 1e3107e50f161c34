import Foundation

/// Address of a Martlet server: `http://HOST[:PORT][/BASE]`.
package struct Endpoint: Sendable, Hashable, CustomStringConvertible {
  package static let defaultPort = 8080
  package static let local = Endpoint(host: "127.0.0.1", port: defaultPort, basePath: "")

  package let host: String
  package let port: Int
  /// Empty, or begins with a slash and does not end with one.
  package let basePath: String

  private init(host: String, port: Int, basePath: String) {
    self.host = host
    self.port = port
    self.basePath = basePath
  }

  /// Parses a URL; a bare `HOST:PORT` is taken as `http://HOST:PORT`.
  /// - Throws: `invalid_input` for other text and for https addresses, with the remedy.
  package init(_ text: String) throws(APIError) {
    let url = text.contains("://") ? text : "http://\(text)"
    guard let parts = URLComponents(string: url), let host = parts.host, !host.isEmpty, parts.user == nil,
      parts.password == nil,
      parts.query == nil, parts.fragment == nil, (1...65_535).contains(parts.port ?? 80)
    else {
      throw APIError(.invalidInput, "'\(text)' is not a server address; give one such as http://127.0.0.1:8080")
    }
    guard parts.scheme?.lowercased() != "https" else {
      throw APIError(
        .invalidInput,
        "this client supports only http; reach a server behind TLS through a tunnel, such as "
          + "`ssh -L 8080:127.0.0.1:8080 HOST`"
      )
    }
    guard parts.scheme?.lowercased() == "http" else {
      throw APIError(.invalidInput, "'\(text)' is not an http:// address")
    }
    var path = parts.percentEncodedPath
    while path.hasSuffix("/") { path.removeLast() }
    self.init(host: host.trimmingCharacters(in: ["[", "]"]), port: parts.port ?? 80, basePath: path)
  }

  package var description: String {
    "http://\(host.contains(":") ? "[\(host)]" : host):\(port)\(basePath)"
  }

  /// Whether both endpoints name the same server, without a name lookup.
  package func isSameServer(as other: Endpoint) -> Bool {
    port == other.port && basePath == other.basePath && Self.canonical(host) == Self.canonical(other.host)
  }

  private static func canonical(_ host: String) -> String {
    let lowered = host.lowercased()
    return ["localhost", "::1", "0.0.0.0"].contains(lowered) ? "127.0.0.1" : lowered
  }
}

/// Percent-encodes a path segment or query value, except for the unreserved characters of RFC 3986.
func percentEncoded(_ text: String) -> String {
  var encoded = ""
  for byte in text.utf8 {
    switch byte {
    case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
      UInt8(ascii: "0")...UInt8(ascii: "9"),
      UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: "_"), UInt8(ascii: "~"):
      encoded.unicodeScalars.append(Unicode.Scalar(byte))
    default:
      let digits = String(byte, radix: 16, uppercase: true)
      encoded += digits.utf8.count == 1 ? "%0\(digits)" : "%\(digits)"
    }
  }
  return encoded
}
