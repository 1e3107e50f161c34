import APIClient

/// The control plane's database.
package enum DatabaseChoice: Sendable, Equatable {
  /// SQLite in the data directory.
  case embedded
  /// A PostgreSQL server, which several control planes can share.
  /// - url: may contain a password; must not be shown.
  /// - password: used if the URL contains none.
  case postgres(url: String, password: String?)

  /// Whether other control planes may use the same database.
  package var isShared: Bool { self != .embedded }

  /// Whether a URL has a password, before the host or as a parameter. Source: PostgreSQL documentation, "Connection URIs"
  static func hasPassword(_ url: String) -> Bool {
    let rest = url.drop { $0 != "/" }.drop { $0 == "/" }
    let authority = rest.prefix { $0 != "/" && $0 != "?" }
    if let at = authority.lastIndex(of: "@"), authority[..<at].contains(":") { return true }
    let query = rest.drop { $0 != "?" }.dropFirst()
    return query.split(separator: "&").contains { parameter in
      ["password", "sslpassword"].contains(parameter.prefix { $0 != "=" })
    }
  }

  /// - Throws: `invalid_input` that shows the form, and nothing of what was given.
  init(settings: Settings, option: String? = nil) throws(APIError) {
    guard let url = settings.value(.databaseURL, option: option) else {
      self = .embedded
      return
    }
    guard ["postgres://", "postgresql://"].contains(where: url.hasPrefix) else {
      throw APIError(
        .invalidInput,
        "DATABASE_URL is not a PostgreSQL address; give one such as postgres://user@host:5432/name?sslmode=require"
      )
    }
    if let option, !option.isEmpty, Self.hasPassword(option) {
      throw APIError(
        .invalidInput,
        "a password in --database-url can be read by every user of this machine; give it as PGPASSWORD, or the URL as "
          + "DATABASE_URL, in the environment or in .env")
    }
    self = .postgres(url: url, password: settings.value(.databasePassword))
  }
}
