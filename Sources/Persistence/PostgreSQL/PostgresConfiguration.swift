import CPostgres

/// Address of a PostgreSQL server, connection limits and time-outs.
package struct PostgresConfiguration: Sendable {
  /// A libpq connection URI, `postgres://user:password@host:5432/database?sslmode=verify-full`. Never logged or shown,
  /// as it may contain a password.
  package let url: String
  /// Used if the URL contains no password; libpq falls back to the environment variable PGPASSWORD when both lack it.
  package var password: String?
  /// Each connection costs a process on the server and a thread here. Look-ups by key and the leader lock use one
  /// further connection each.
  package var maximumConnections = 8
  /// Upper bound on calls that wait for a connection; further calls fail at once.
  package var maximumWaiting = 4_096
  /// How long a call waits for a connection, and keeps reconnecting while the server is unreachable. A server restart
  /// within this time goes unnoticed by callers.
  package var patience: Duration = .seconds(5)
  package var connectTimeoutSeconds = 5
  /// The server cancels a statement after this time; if it does not respond, the client closes the connection a few
  /// seconds later.
  package var statementTimeout: Duration = .seconds(30)
  /// The statement time-out of schema migrations.
  package var migrationTimeout: Duration = .seconds(900)

  /// - Throws: `PersistenceError.failed` with a text that shows the expected form but nothing of the URL.
  package init(url: String, password: String? = nil) throws(PersistenceError) {
    guard Self.isPostgres(url), Self.parses(url) else {
      throw PersistenceError.failed(
        "DATABASE_URL is not a PostgreSQL URL; the expected form is "
          + "postgres://user:password@host:5432/database?sslmode=require"
      )
    }
    self.url = url
    self.password = password
  }

  package static func isPostgres(_ url: String) -> Bool {
    url.hasPrefix("postgres://") || url.hasPrefix("postgresql://")
  }

  private static func parses(_ url: String) -> Bool {
    var errorMessage: UnsafeMutablePointer<CChar>?
    guard let options = PQconninfoParse(url, &errorMessage) else {
      PQfreemem(errorMessage)
      return false
    }
    PQconninfoFree(options)
    return true
  }

  /// Keywords and values for libpq. Later entries override earlier ones, so the URL overrides our defaults but not our
  /// requirements.
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
