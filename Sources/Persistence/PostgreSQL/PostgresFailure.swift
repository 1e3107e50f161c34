import CPostgres

/// What the server or the connection to it said, before anybody decided what it means for the call.
struct PostgresFailure: Error, Sendable {
  enum Kind: Sendable, Equatable {
    /// There is no connection and none could be made.
    case notConnected
    /// The connection broke, or was given up because no answer came.
    case connectionLost
    /// Transactions got into each other's way; this one was undone and may run again.
    case conflict
    /// A change was asked of a connection that only reads: a mistake of ours, or a server that turned into a stand-by.
    case readOnly
    /// A prepared statement does not fit the schema any more.
    case staleStatement
    case duplicate
    case constraint
    /// The server gave the statement up, or lacks something to carry it out.
    case unavailable
    case other
  }

  let kind: Kind
  /// For the log: may name tables and columns, never holds values.
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
  /// Of an unsuccessful result.
  init(result: OpaquePointer) {
    guard let state = PostgresDiagnosis.state.text(in: result) else {
      // Errors that libpq makes itself have no SQLSTATE; all that can happen to a well-formed call is a broken
      // connection.
      self.init(kind: .connectionLost, text: "the connection broke")
      return
    }
    let names = [PostgresDiagnosis.table, .column, .constraint].compactMap { $0.text(in: result) }
    // The messages of class 22 (data exception) quote the value.
    let message = state.hasPrefix("22") ? "a value is not acceptable" : PostgresDiagnosis.message.text(in: result) ?? ""
    self.init(kind: Self.kind(state: state), text: ([state, message] + names).joined(separator: " "))
  }

  /// Source: https://www.postgresql.org/docs/current/errcodes-appendix.html
  static func kind(state: String) -> Kind {
    switch state {
    case "40001", "40P01": return .conflict
    case "23505": return .duplicate
    // feature_not_supported is said of a cached plan whose result type changed, invalid_sql_statement_name of one that
    // is gone.
    case "0A000", "26000": return .staleStatement
    // query_canceled, lock_not_available
    case "57014", "55P03": return .unavailable
    case "25006": return .readOnly
    default: break
    }
    switch state.prefix(2) {
    // Integrity constraint violation, and data exception: a value that no column takes.
    case "22", "23": return .constraint
    // Connection exception, operator intervention (shutdown, crash, starting up).
    case "08", "57": return .connectionLost
    // Insufficient resources.
    case "53": return .unavailable
    default: return .other
    }
  }
}

/// Parts of an error or remark. Source: PG_DIAG_… in postgres_ext.h, character constants that Swift does not import.
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
