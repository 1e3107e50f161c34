import APIClient

/// Who may come in, how often, and how long is kept what they did; set by variables only, because a secret does not
/// belong on a command line.
package struct AccessOptions: Sendable, Equatable {
  package static let callsPerSecond = 0...1_000_000
  package static let retentionDays = 0...36_500
  private static let maximumProxies = 64

  /// Of all tokens; nil lets the server make one up and keep it.
  package var tokenSecret: String?
  /// Whether strangers may make accounts for themselves.
  package var allowsSignUp: Bool
  /// Per key or user; 0 is no limit, nil the server's default.
  package var callsPerSecond: Int?
  /// Addresses of proxies that are believed when they say for whom they ask.
  package var trustedProxies: Set<String>
  /// Of the audit log and of sandboxes that are over; 0 is for ever, nil the server's default.
  package var retentionDays: Int?

  package init(
    tokenSecret: String? = nil, allowsSignUp: Bool = true, callsPerSecond: Int? = nil, trustedProxies: Set<String> = [],
    retentionDays: Int? = nil
  ) {
    self.tokenSecret = tokenSecret
    self.allowsSignUp = allowsSignUp
    self.callsPerSecond = callsPerSecond
    self.trustedProxies = trustedProxies
    self.retentionDays = retentionDays
  }

  /// - Throws: `invalid_input` that names the variable.
  init(_ settings: Settings) throws(APIError) {
    self.init(
      tokenSecret: settings.value(.tokenSecret), allowsSignUp: try Self.signUp(settings.value(.signUp)),
      callsPerSecond: try Self.limit(settings.value(.rateLimit)),
      trustedProxies: try Self.proxies(settings.value(.trustedProxies)),
      retentionDays: try Self.days(settings.value(.retentionDays)))
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
        "MARTLET_RATE_LIMIT must be calls per second between 0 (no limit) and \(callsPerSecond.upperBound)")
    }
    return number
  }

  private static func days(_ text: String?) throws(APIError) -> Int? {
    guard let text else { return nil }
    guard let number = Int(text), retentionDays.contains(number) else {
      throw APIError(
        .invalidInput, "MARTLET_RETENTION_DAYS must be days between 0 (for ever) and \(retentionDays.upperBound)")
    }
    return number
  }

  private static func proxies(_ text: String?) throws(APIError) -> Set<String> {
    let addresses = (text ?? "").split { $0 == "," || $0 == " " }.map(String.init)
    let isAddress = { (text: String) in
      (2...45).contains(text.utf8.count) && text.allSatisfy { $0.isHexDigit || $0 == "." || $0 == ":" }
    }
    guard addresses.count <= maximumProxies, addresses.allSatisfy(isAddress) else {
      throw APIError(.invalidInput, "MARTLET_TRUSTED_PROXIES must be IP addresses, joined with commas")
    }
    return Set(addresses)
  }
}
