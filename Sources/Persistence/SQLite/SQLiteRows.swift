import GRDB
import GRDBSQLite
import Model

/// Binds parameters and reads results through SQLite's C API. GRDB's arguments and rows also support access by name,
/// and preparing for that costs more than the rest of a look-up.
///
/// Source: https://www.sqlite.org/c3ref/bind_blob.html, https://www.sqlite.org/c3ref/step.html,
/// https://www.sqlite.org/c3ref/column_blob.html
enum SQLiteRows {
  /// - Throws: `DatabaseError`.
  static func all(_ statement: Statement, _ parameters: [SQLValue], _ database: GRDB.Database) throws -> [SQLRow] {
    let handle = statement.sqliteStatement
    defer { sqlite3_reset(handle) }
    try bind(parameters, handle, database)
    var rows: [SQLRow] = []
    while true {
      let code = sqlite3_step(handle)
      if code == SQLITE_DONE { return rows }
      guard code == SQLITE_ROW else { throw failure(code, database) }
      rows.append(SQLRow((0..<sqlite3_column_count(handle)).map { value(handle, $0) }))
    }
  }

  /// Binds one value per placeholder, replacing earlier bindings.
  private static func bind(_ parameters: [SQLValue], _ handle: OpaquePointer, _ database: GRDB.Database) throws {
    guard sqlite3_bind_parameter_count(handle) == parameters.count else {
      throw DatabaseError(
        resultCode: .SQLITE_RANGE, message: "the number of parameters differs from the number of placeholders")
    }
    for (index, value) in parameters.enumerated() {
      let code = bind(value, handle, Int32(index) + 1)
      guard code == SQLITE_OK else { throw failure(code, database) }
    }
  }

  /// SQLite copies texts and blobs.
  private static func bind(_ value: SQLValue, _ handle: OpaquePointer, _ position: Int32) -> Int32 {
    switch value {
    case .null: sqlite3_bind_null(handle, position)
    case .integer(let number): sqlite3_bind_int64(handle, position, number)
    case .bool(let flag): sqlite3_bind_int64(handle, position, flag ? 1 : 0)
    case .timestamp(let date): sqlite3_bind_int64(handle, position, StoredTime.microseconds(date))
    case .text(let text): bind(text, handle, position)
    case .uuid(let uuid): bind(UUIDText.string(uuid), handle, position)
    case .blob(let bytes): bytes.withUnsafeBytes { bind($0, handle, position) }
    }
  }

  private static func bind(_ text: String, _ handle: OpaquePointer, _ position: Int32) -> Int32 {
    var text = text
    return text.withUTF8 { bytes in
      // An empty string may have no base address, and SQLite takes a null pointer for NULL.
      guard let start = bytes.baseAddress else { return sqlite3_bind_text(handle, position, "", 0, nil) }
      return start.withMemoryRebound(to: CChar.self, capacity: bytes.count) {
        sqlite3_bind_text(handle, position, $0, Int32(bytes.count), copied)
      }
    }
  }

  private static func bind(_ bytes: UnsafeRawBufferPointer, _ handle: OpaquePointer, _ position: Int32) -> Int32 {
    guard !bytes.isEmpty else { return sqlite3_bind_zeroblob(handle, position, 0) }
    return sqlite3_bind_blob(handle, position, bytes.baseAddress, Int32(bytes.count), copied)
  }

  /// SQLITE_TRANSIENT: SQLite copies the value. Source: https://www.sqlite.org/c3ref/c_static.html
  private static var copied: sqlite3_destructor_type { unsafeBitCast(-1, to: sqlite3_destructor_type.self) }

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

  /// Gets the pointer before the length: sqlite3_column_text may convert the value and change its length.
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
