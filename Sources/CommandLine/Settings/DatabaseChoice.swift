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

  /// - Throws: `invalid_input` with an example; the message never contains the given URL.
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
    self = .postgres(url: url, password: settings.value(.databasePassword))
  }
}
