import CPostgres

/// An error of the server or of the connection, before it is decided what it means for the call.
struct PostgresFailure: Error, Sendable {
  enum Kind: Sendable, Equatable {
    /// There is no connection and none could be established.
    case notConnected
    /// The connection broke, or was closed because no response arrived.
    case connectionLost
    /// A serialization failure or deadlock with another transaction; this one was rolled back and may be retried.
    case conflict
    /// A write on a read-only connection: a bug in this program, or a server that became a stand-by.
    case readOnly
    /// A prepared statement no longer fits the schema, or no longer exists on the server.
    case staleStatement
    case duplicate
    case constraint
    /// The server cancelled the statement, or lacks a resource to run it.
    case unavailable
    case other
  }

  let kind: Kind
  /// For the log: may name tables and columns, never contains values.
  let text: String

  var persistenceError: PersistenceError {
    switch kind {
    case .notConnected, .connectionLost, .conflict, .unavailable: .unavailable(text)
    case .duplicate: .duplicate(text)
    case .constraint: .constraint(text)
    case .readOnly, .staleStatement, .other: .failed(text)
    }
  }
}

extension PostgresFailure {
  /// The failure that an unsuccessful result reports.
  init(result: OpaquePointer) {
    guard let state = PostgresDiagnosis.state.text(in: result) else {
      // Errors that libpq generates itself have no SQLSTATE; for a well-formed call the only such error is a broken
      // connection.
      self.init(kind: .connectionLost, text: "the connection broke")
      return
    }
    let names = [PostgresDiagnosis.table, .column, .constraint].compactMap { $0.text(in: result) }
    // Messages of class 22 (data exception) quote the value.
    let message =
      state.hasPrefix("22") ? "the database rejected a value" : PostgresDiagnosis.message.text(in: result) ?? ""
    self.init(kind: Self.kind(state: state), text: ([state, message] + names).joined(separator: " "))
  }

  /// Source: https://www.postgresql.org/docs/current/errcodes-appendix.html
  static func kind(state: String) -> Kind {
    switch state {
    case "40001", "40P01": return .conflict
    case "23505": return .duplicate
    // feature_not_supported: the result type of a cached plan changed; invalid_sql_statement_name: the prepared
    // statement no longer exists.
    case "0A000", "26000": return .staleStatement
    // query_canceled, lock_not_available
    case "57014", "55P03": return .unavailable
    case "25006": return .readOnly
    default: break
    }
    switch state.prefix(2) {
    // Integrity constraint violation; data exception: a value that the column cannot store.
    case "22", "23": return .constraint
    // Connection exception, operator intervention (shutdown, crash, starting up).
    case "08", "57": return .connectionLost
    // Insufficient resources.
    case "53": return .unavailable
    default: return .other
    }
  }
}

/// Fields of an error or notice. Source: PG_DIAG_… in postgres_ext.h, character constants that Swift does not import.
enum PostgresDiagnosis: Character {
  case severity = "V"
  case state = "C"
  case message = "M"
  case table = "t"
  case column = "c"
  case constraint = "n"

  func text(in result: OpaquePointer) -> String? {
    guard let code = rawValue.asciiValue, let text = PQresultErrorField(result, Int32(code)) else { return nil }
    return String(cString: text)
  }
}
