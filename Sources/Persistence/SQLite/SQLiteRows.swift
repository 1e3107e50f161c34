import GRDB
import GRDBSQLite

/// Reads the rows of a statement through SQLite's own interface. GRDB's rows can be asked for a column by its name and make two strings
/// per column to be ready for it, which costs more than the rest of a look-up.
///
/// Source: https://www.sqlite.org/c3ref/step.html, https://www.sqlite.org/c3ref/column_blob.html
enum SQLiteRows {
  /// - Parameter statement: with its arguments bound.
  /// - Throws: `DatabaseError`.
  static func all(_ statement: Statement, _ database: GRDB.Database) throws -> [SQLRow] {
    let handle = statement.sqliteStatement
    defer { sqlite3_reset(handle) }
    var rows: [SQLRow] = []
    while true {
      let code = sqlite3_step(handle)
      if code == SQLITE_DONE { return rows }
      guard code == SQLITE_ROW else { throw failure(code, database) }
      rows.append(SQLRow((0..<sqlite3_column_count(handle)).map { value(handle, $0) }))
    }
  }

  private static func failure(_ code: Int32, _ database: GRDB.Database) -> DatabaseError {
    let message = database.sqliteConnection.flatMap { sqlite3_errmsg($0) }.map { String(cString: $0) }
    return DatabaseError(resultCode: ResultCode(rawValue: code), message: message)
  }

  private static func value(_ handle: OpaquePointer, _ column: Int32) -> SQLValue {
    switch sqlite3_column_type(handle, column) {
    case SQLITE_INTEGER: .integer(sqlite3_column_int64(handle, column))
    case SQLITE_FLOAT: Int64(exactly: sqlite3_column_double(handle, column)).map(SQLValue.integer) ?? .null
    case SQLITE_TEXT: .text(text(handle, column))
    case SQLITE_BLOB: .blob(blob(handle, column))
    default: .null
    }
  }

  /// The pointer first: asking for it may change the length.
  private static func text(_ handle: OpaquePointer, _ column: Int32) -> String {
    let start = sqlite3_column_text(handle, column)
    let bytes = UnsafeBufferPointer(start: start, count: Int(sqlite3_column_bytes(handle, column)))
    return String(decoding: bytes, as: UTF8.self)
  }

  private static func blob(_ handle: OpaquePointer, _ column: Int32) -> [UInt8] {
    let start = sqlite3_column_blob(handle, column)
    return [UInt8](UnsafeRawBufferPointer(start: start, count: Int(sqlite3_column_bytes(handle, column))))
  }
}
