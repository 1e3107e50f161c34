import NIOCore

/// The names by which clients may address this server; each request's `Host` is compared with them.
///
/// The owner of a web page can let its name resolve to a loopback or private address (DNS rebinding). The browser then
/// takes this server for the page's own origin and lets the page send requests and read the responses. These requests
/// have the page's name in `Host`, which requests of legitimate clients never have.
///
/// Accepted are loopback names and addresses, the address that the server listens on, the local address of the
/// connection, and the configured public names.
package struct ServerNames: Sendable, Equatable {
  /// A configured public name: `box.example.com`, `box.example.com:8443` or `*.example.com`.
  package struct Pattern: Sendable, Hashable {
    /// In lower case. For a wildcard without the asterisk, but with the dot.
    let host: String
    /// Nil for any port.
    let port: Int?
    let matchesSubdomains: Bool

    /// Returns nil if `text` is not a host name, an IP address, or a wildcard of at least two labels.
    package init?(_ text: String) {
      var text = text.lowercased()
      let isWildcard = text.hasPrefix("*.")
      if isWildcard { text.removeFirst(2) }
      guard let authority = Authority(text), !isWildcard || (authority.host.contains(".") && !authority.isAddress)
      else {
        return nil
      }
      host = isWildcard ? "." + authority.host : authority.host
      port = authority.port
      matchesSubdomains = isWildcard
    }

    func matches(_ authority: Authority) -> Bool {
      if let port, let other = authority.port, port != other { return false }
      guard matchesSubdomains else { return authority.host == host }
      return authority.host.hasSuffix(host) && authority.host.utf8.count > host.utf8.count
    }
  }

  private let listenHost: String
  private let publicNames: Set<Pattern>

  /// - Parameter listenHost: name or address that the server listens on, as configured.
  package init(listenHost: String, publicNames: Set<Pattern> = []) {
    let text = listenHost.lowercased()
    self.listenHost = IPAddressText.normal(text) ?? text
    self.publicNames = publicNames
  }

  /// Whether a request with this `Host` field may be served.
  /// - Parameter localAddress: the connection's local address; nil if the connection has already closed.
  func accepts(host text: String, localAddress: SocketAddress?) -> Bool {
    guard let authority = Authority(text) else { return false }
    if authority.isLoopback || authority.host == listenHost { return true }
    if let local = localAddress?.ipAddress, IPAddressText.normal(local) == authority.host { return true }
    return isPublic(authority)
  }

  /// Whether pages of this origin (`scheme://host[:port]`) belong to a configured public name.
  func isPublicOrigin(_ origin: String) -> Bool {
    let origin = origin.lowercased()
    for (scheme, port) in [("https://", 443), ("http://", 80)] where origin.hasPrefix(scheme) {
      guard var authority = Authority(String(origin.dropFirst(scheme.count))) else { return false }
      authority.port = authority.port ?? port
      return publicNames.contains { $0.matches(authority) && ($0.port != nil || authority.port == port) }
    }
    return false
  }

  private func isPublic(_ authority: Authority) -> Bool {
    publicNames.contains { $0.matches(authority) }
  }
}

/// Host and optional port, as in the `Host` field. Source: RFC 9110, section 7.2; RFC 3986, section 3.2.
struct Authority: Equatable {
  private static let maximumHostBytes = 253

  /// Lower case, without a final dot; an IP address in its shortest form, without brackets.
  let host: String
  var port: Int?
  let isAddress: Bool

  /// Nil for anything but a host name or IP address with an optional port.
  init?(_ text: String) {
    var text = Substring(text.lowercased())
    var brackets: Substring?
    if text.first == "[" {
      guard let end = text.firstIndex(of: "]") else { return nil }
      brackets = text[text.index(after: text.startIndex)..<end]
      text = text[text.index(after: end)...]
    }
    let parts = text.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
    if parts.count == 2 {
      guard let number = UInt16(parts[1]), parts[1].allSatisfy(\.isNumber) else { return nil }
      port = Int(number)
    }
    if let brackets {
      guard parts.first?.isEmpty ?? true, brackets.contains(":"), let address = IPAddressText.normal(String(brackets))
      else { return nil }
      (host, isAddress) = (address, true)
      return
    }
    var name = String(parts.first ?? "")
    if let address = IPAddressText.normal(name) {
      (host, isAddress) = (address, true)
      return
    }
    if name.hasSuffix(".") { name.removeLast() }
    guard (1...Self.maximumHostBytes).contains(name.utf8.count), name.utf8.allSatisfy(Self.isNameByte),
      !name.hasPrefix("."), !name.contains("..")
    else { return nil }
    (host, isAddress) = (name, false)
  }

  var isLoopback: Bool {
    host == "localhost" || host == "::1" || (isAddress && host.hasPrefix("127."))
  }

  private static func isNameByte(_ byte: UInt8) -> Bool {
    switch byte {
    case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "0")...UInt8(ascii: "9"): true
    case UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: "_"): true
    default: false
    }
  }
}
