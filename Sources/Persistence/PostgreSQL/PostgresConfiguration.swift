import CPostgres

/// Where the server is and how much is asked of it.
package struct PostgresConfiguration: Sendable {
  /// Libpq's form, `postgres://user:password@host:5432/database?sslmode=verify-full`; never shown, as it may hold a
  /// password.
  package let url: String
  /// For a URL without one; the environment's PGPASSWORD serves when both lack it.
  package var password: String?
  /// Each is a process on the server and a thread here; look-ups by key and the leadership have one more each.
  package var maximumConnections = 8
  /// Calls that wait for a connection; further ones fail at once.
  package var maximumWaiting = 4_096
  /// How long a call goes on trying while the server is away. A restart of the server within it goes unnoticed.
  package var patience: Duration = .seconds(5)
  package var connectTimeoutSeconds = 5
  /// After this the server gives a statement up; some seconds later so do we.
  package var statementTimeout: Duration = .seconds(30)
  /// The same for changes of the schema.
  package var migrationTimeout: Duration = .seconds(900)

  /// - Throws: `PersistenceError.failed` that shows the form, and nothing of the URL.
  package init(url: String, password: String? = nil) throws(PersistenceError) {
    guard Self.isPostgres(url), Self.parses(url) else {
      throw PersistenceError.failed(
        "DATABASE_URL is not a PostgreSQL URL; it looks like postgres://user:password@host:5432/database?sslmode=require"
      )
    }
    self.url = url
    self.password = password
  }

  package static func isPostgres(_ url: String) -> Bool {
    url.hasPrefix("postgres://") || url.hasPrefix("postgresql://")
  }

  private static func parses(_ url: String) -> Bool {
    var complaint: UnsafeMutablePointer<CChar>?
    guard let options = PQconninfoParse(url, &complaint) else {
      PQfreemem(complaint)
      return false
    }
    PQconninfoFree(options)
    return true
  }

  /// Keywords and values for libpq; later ones win over earlier ones, so the URL stands between our defaults and our
  /// demands.
  ///
  /// Source: https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-PARAMKEYWORDS
  var parameters: [(keyword: String, value: String)] {
    var parameters = [
      ("connect_timeout", "\(connectTimeoutSeconds)"), ("fallback_application_name", "martlet"),
      ("keepalives_idle", "30"),
      ("keepalives_interval", "10"), ("keepalives_count", "3"), ("tcp_user_timeout", "30000"),
    ]
    if let password { parameters.append(("password", password)) }
    return parameters + [("dbname", url), ("client_encoding", "UTF8")]
  }
}
