import CPostgres
import Foundation

/// Parameters of one call, encoded as the types that the server expects at their positions.
///
/// The server infers the types, so the same value can be stored in columns of different types: an id in a `uuid` column
/// or, in the audit log, in a `text` column.
struct PostgresParameters {
  /// Contains at least one byte, so that every value has an address: libpq takes a null pointer for NULL.
  private var bytes: [UInt8] = [0]
  /// One field per parameter; nil stands for NULL.
  private var fields: [(offset: Int, length: Int, isBinary: Bool)?] = []

  /// - Throws: `PersistenceError.constraint` for a value that its column cannot hold.
  init(_ values: [SQLValue], types: [Oid]) throws(PersistenceError) {
    guard values.count == types.count else {
      throw PersistenceError.failed("the statement takes \(types.count) parameters, not \(values.count)")
    }
    for (value, type) in zip(values, types) { try append(value, PostgresType(oid: type)) }
  }

  /// Passes libpq's parameter arrays to `body`; they are valid only during the call.
  func withPointers<Result>(
    _ body: (Int32, UnsafePointer<UnsafePointer<CChar>?>?, UnsafePointer<Int32>?, UnsafePointer<Int32>?) -> Result
  ) -> Result {
    bytes.withUnsafeBytes { raw in
      let start = raw.baseAddress?.assumingMemoryBound(to: CChar.self)
      let values = fields.map { field in field.flatMap { field in start.map { $0 + field.offset } } }
      let lengths = fields.map { Int32($0?.length ?? 0) }
      let formats = fields.map { $0?.isBinary == false ? Int32(0) : 1 }
      return body(Int32(fields.count), values, lengths, formats)
    }
  }

  private mutating func append(_ value: SQLValue, _ type: PostgresType?) throws(PersistenceError) {
    switch value {
    case .null: fields.append(nil)
    case .integer(let number): try append(number, type)
    case .text(let text): try append(text, type)
    case .blob(let blob): add(blob, isBinary: true)
    case .bool(let flag): type == .bool ? add([flag ? 1 : 0], isBinary: true) : try append(flag ? 1 : 0, type)
    case .uuid(let uuid):
      type == .uuid ? add(withUnsafeBytes(of: uuid.uuid, Array.init), isBinary: true) : try append(uuid.text, type)
    case .timestamp(let date): try append(microseconds: StoredTime.microseconds(date), type)
    }
  }

  private mutating func append(_ number: Int64, _ type: PostgresType?) throws(PersistenceError) {
    switch type {
    case .int8: add(bigEndian: number)
    case .int4: add(bigEndian: try narrowed(number, Int32.self))
    case .int2: add(bigEndian: try narrowed(number, Int16.self))
    case .bool: add([number == 0 ? 0 : 1], isBinary: true)
    default: try append(String(number), type)
    }
  }

  private mutating func append(_ text: String, _ type: PostgresType?) throws(PersistenceError) {
    switch type {
    case .jsonb: add([PostgresType.jsonbVersion] + text.utf8, isBinary: true)
    case .text, .varchar, .name, .json, .unknown: add(Array(text.utf8), isBinary: true)
    default:
      // libpq takes parameters in text format as NUL-terminated strings.
      guard !text.utf8.contains(0) else { throw PersistenceError.constraint("a text with a NUL byte") }
      add(Array(text.utf8) + [0], isBinary: false)
    }
  }

  private mutating func append(microseconds: Int64, _ type: PostgresType?) throws(PersistenceError) {
    guard type == .timestamptz else { return try append(microseconds, type) }
    let (difference, overflows) = microseconds.subtractingReportingOverflow(PostgresType.epochMicroseconds)
    guard !overflows else { throw PersistenceError.constraint("a time out of range") }
    add(bigEndian: difference)
  }

  private func narrowed<Number: FixedWidthInteger>(_ number: Int64, _: Number.Type) throws(PersistenceError) -> Number {
    guard let narrow = Number(exactly: number) else { throw PersistenceError.constraint("a number out of range") }
    return narrow
  }

  private mutating func add(bigEndian number: some FixedWidthInteger) {
    add(withUnsafeBytes(of: number.bigEndian, Array.init), isBinary: true)
  }

  private mutating func add(_ value: [UInt8], isBinary: Bool) {
    fields.append((bytes.count, value.count, isBinary))
    bytes += value
  }
}

extension UUID {
  /// The text form that SQLite databases store.
  fileprivate var text: String { uuidString.lowercased() }
}
