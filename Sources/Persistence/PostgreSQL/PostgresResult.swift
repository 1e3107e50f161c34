import CPostgres
import Foundation

/// A result that libpq returned; freed with this value.
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

  /// The command tag, such as `COMMIT` or `UPDATE 1`.
  var command: String { String(cString: PQcmdStatus(pointer)) }

  /// The first value of the first row; valid only for statements whose results are in text format.
  var text: String? {
    guard PQntuples(pointer) > 0, PQnfields(pointer) > 0, PQgetisnull(pointer, 0, 0) == 0 else { return nil }
    return PQgetvalue(pointer, 0, 0).map { String(cString: $0) }
  }

  var changedRows: Int { Int(String(cString: PQcmdTuples(pointer))) ?? 0 }

  /// The parameter types, if this is the description of a prepared statement.
  var parameterTypes: [Oid] { (0..<PQnparams(pointer)).map { PQparamtype(pointer, $0) } }

  /// - Throws: `PersistenceError.corruptRow` for a column whose type `SQLValue` cannot represent.
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
      throw PersistenceError.corruptRow("column \(column) has an unsupported type or is damaged")
    }
    return value
  }
}
