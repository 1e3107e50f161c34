import APIClient

/// Settings of authentication, rate limits and retention. They come only from variables, because other users can see
/// command lines.
package struct AccessOptions: Sendable, Equatable {
  package static let callsPerSecond = 0...1_000_000
  package static let retentionDays = 0...36_500
  private static let maximumProxies = 64
  private static let maximumHosts = 64

  /// Secret that signs session tokens; nil lets the server generate and store one.
  package var tokenSecret: String?
  /// Whether users may sign up without an administrator.
  package var allowsSignUp: Bool
  /// Rate limit per API key or user; 0 for no limit, nil for the server's default.
  package var callsPerSecond: Int?
  /// Addresses of reverse proxies whose `X-Forwarded-*` headers are trusted.
  package var trustedProxies: Set<String>
  /// Names that clients may put into `Host` besides loopback names and the listen address.
  package var publicHosts: [String]
  /// Days for which the audit log and rows of stopped sandboxes are kept; 0 for ever, nil for the server's default.
  package var retentionDays: Int?
  /// For which a host keeps what no database row knows; 0 is for ever, nil the server's default.
  package var quarantineDays: Int?

  package init(
    tokenSecret: String? = nil, allowsSignUp: Bool = true, callsPerSecond: Int? = nil, trustedProxies: Set<String> = [],
    publicHosts: [String] = [], retentionDays: Int? = nil
  ) {
    self.tokenSecret = tokenSecret
    self.allowsSignUp = allowsSignUp
    self.callsPerSecond = callsPerSecond
    self.trustedProxies = trustedProxies
    self.publicHosts = publicHosts
    self.retentionDays = retentionDays
  }

  /// - Throws: `invalid_input` with the variable's name.
  init(_ settings: Settings) throws(APIError) {
    self.init(
      tokenSecret: settings.value(.tokenSecret), allowsSignUp: try Self.signUp(settings.value(.signUp)),
      callsPerSecond: try Self.limit(settings.value(.rateLimit)),
      trustedProxies: try Self.proxies(settings.value(.trustedProxies)),
      publicHosts: try Self.hosts(settings.value(.publicHosts)),
      retentionDays: try Self.days(settings.value(.retentionDays), of: .retentionDays))
  }

  private static func signUp(_ text: String?) throws(APIError) -> Bool {
    switch text?.lowercased() {
    case nil, "open": true
    case "closed": false
    default: throw APIError(.invalidInput, "MARTLET_SIGN_UP must be open or closed")
    }
  }

  private static func limit(_ text: String?) throws(APIError) -> Int? {
    guard let text else { return nil }
    guard let number = Int(text), callsPerSecond.contains(number) else {
      throw APIError(
        .invalidInput,
        "MARTLET_RATE_LIMIT must be a number of calls per second from 0 (no limit) to \(callsPerSecond.upperBound)")
    }
    return number
  }

  static func days(_ text: String?, of name: SettingName) throws(APIError) -> Int? {
    guard let text else { return nil }
    guard let number = Int(text), retentionDays.contains(number) else {
      throw APIError(
        .invalidInput,
        "\(name.rawValue) must be a number of days from 0 (for ever) to \(retentionDays.upperBound)")
    }
    return number
  }

  private static func hosts(_ text: String?) throws(APIError) -> [String] {
    let names = (text ?? "").split { $0 == "," || $0 == " " }.map(String.init)
    guard names.count <= maximumHosts, names.allSatisfy(isHostPattern) else {
      throw APIError(
        .invalidInput,
        "MARTLET_PUBLIC_HOSTS must be a comma-separated list of host names or addresses, each with an optional port, "
          + "or *.DOMAIN"
      )
    }
    return names
  }

  /// Letters, digits and the few signs of names, addresses and ports; the server checks the form.
  private static func isHostPattern(_ text: String) -> Bool {
    let signs: Set<Character> = ["-", ".", "_", ":", "[", "]", "*"]
    return (1...260).contains(text.utf8.count)
      && text.allSatisfy { ($0.isASCII && ($0.isLetter || $0.isNumber)) || signs.contains($0) }
  }

  private static func proxies(_ text: String?) throws(APIError) -> Set<String> {
    let addresses = (text ?? "").split { $0 == "," || $0 == " " }.map(String.init)
    let isAddress = { (text: String) in
      (2...45).contains(text.utf8.count) && text.allSatisfy { $0.isHexDigit || $0 == "." || $0 == ":" }
    }
    guard addresses.count <= maximumProxies, addresses.allSatisfy(isAddress) else {
      throw APIError(.invalidInput, "MARTLET_TRUSTED_PROXIES must be a comma-separated list of IP addresses")
    }
    return Set(addresses)
  }
}
