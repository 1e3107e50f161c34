import APIClient

/// Where the server keeps its rows.
package enum DatabaseChoice: Sendable, Equatable {
  /// SQLite, in the data directory.
  case embedded
  /// A server of its own, which several control planes can share.
  /// - url: may hold a password; never to be shown.
  /// - password: for a URL without one.
  case postgres(url: String, password: String?)

  /// Whether other control planes may use the same database.
  package var isShared: Bool { self != .embedded }

  /// - Throws: `invalid_input` that shows the form, and nothing of what was given.
  init(settings: Settings, option: String? = nil) throws(APIError) {
    guard let url = settings.value(.databaseURL, option: option) else {
      self = .embedded
      return
    }
    guard ["postgres://", "postgresql://"].contains(where: url.hasPrefix) else {
      throw APIError(
        .invalidInput,
        "DATABASE_URL does not name a PostgreSQL database; it looks like postgres://user@host:5432/name?sslmode=require"
      )
    }
    self = .postgres(url: url, password: settings.value(.databasePassword))
  }
}
