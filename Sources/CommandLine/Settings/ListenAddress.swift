package import APIClient

/// An address `HOST:PORT`, with an IPv6 host in brackets. Port 0 lets the kernel choose a free port.
package struct ListenAddress: Sendable, Equatable, CustomStringConvertible {
  package static let standard = ListenAddress(host: "127.0.0.1", port: 8080)

  package let host: String
  package let port: Int

  package init(host: String, port: Int) {
    self.host = host
    self.port = port
  }

  /// - Throws: `invalid_input` with an example.
  package init(_ text: String) throws(APIError) {
    guard let colon = text.lastIndex(of: ":") else { throw Self.malformed(text) }
    let portText = text[text.index(after: colon)...]
    guard (1...5).contains(portText.utf8.count), portText.utf8.allSatisfy({ (48...57).contains($0) }),
      let port = Int(portText),
      port <= 65_535
    else { throw Self.malformed(text) }
    var host = text[..<colon]
    if host.hasPrefix("["), host.hasSuffix("]") {
      host = host.dropFirst().dropLast()
    } else if host.contains(":") {
      throw Self.malformed(text)
    }
    guard !host.isEmpty, host.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7F && $0 != UInt8(ascii: "/") }) else {
      throw Self.malformed(text)
    }
    self.init(host: String(host), port: port)
  }

  package var description: String { host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)" }

  private static func malformed(_ text: String) -> APIError {
    APIError(.invalidInput, "'\(text)' is not a listen address; give one such as 127.0.0.1:8080")
  }
}
