import CPostgres
import Foundation

/// An answer of the server; frees it when it is no longer used.
struct PostgresResult: ~Copyable {
  private let pointer: OpaquePointer

  init(_ pointer: OpaquePointer) {
    self.pointer = pointer
  }

  deinit { PQclear(pointer) }

  /// Nil when the statement succeeded.
  var failure: PostgresFailure? {
    switch PQresultStatus(pointer) {
    case PGRES_COMMAND_OK, PGRES_TUPLES_OK, PGRES_EMPTY_QUERY: nil
    default: PostgresFailure(result: pointer)
    }
  }

  var isCopy: Bool { [PGRES_COPY_IN, PGRES_COPY_OUT].contains(PQresultStatus(pointer)) }
  var isPipelineEnd: Bool { PQresultStatus(pointer) == PGRES_PIPELINE_SYNC }

  /// What the server did, in a word: `COMMIT`, `UPDATE 1`.
  var command: String { String(cString: PQcmdStatus(pointer)) }

  /// The first value of the first row; only of statements whose results come as text.
  var text: String? {
    guard PQntuples(pointer) > 0, PQnfields(pointer) > 0, PQgetisnull(pointer, 0, 0) == 0 else { return nil }
    return PQgetvalue(pointer, 0, 0).map { String(cString: $0) }
  }

  var changedRows: Int { Int(String(cString: PQcmdTuples(pointer))) ?? 0 }

  /// Of the description of a prepared statement.
  var parameterTypes: [Oid] { (0..<PQnparams(pointer)).map { PQparamtype(pointer, $0) } }

  /// - Throws: `PersistenceError.corruptRow` for a column of a type that `SQLValue` does not have.
  func rows() throws -> [SQLRow] {
    let columns = PQnfields(pointer)
    let types = (0..<columns).map { PostgresType(oid: PQftype(pointer, $0)) }
    return try (0..<PQntuples(pointer)).map { row in
      SQLRow(try (0..<columns).map { try value(row, $0, types[Int($0)]) })
    }
  }

  private func value(_ row: Int32, _ column: Int32, _ type: PostgresType?) throws -> SQLValue {
    guard PQgetisnull(pointer, row, column) == 0, let start = PQgetvalue(pointer, row, column) else { return .null }
    let bytes = UnsafeRawBufferPointer(start: start, count: Int(PQgetlength(pointer, row, column)))
    guard let value = type?.decode(bytes) else {
      throw PersistenceError.corruptRow("column \(column) is of a type that is not used here, or damaged")
    }
    return value
  }
}
