import CPostgres
import Foundation

/// The supported column types and their binary representation.
///
/// Integers are big-endian. `timestamptz` is microseconds since 2000-01-01 UTC. `jsonb` is a version byte (1) and text.
/// `numeric` is four 16-bit numbers (digit count, weight of the first digit, sign, scale) and digits in base 10,000.
/// Snapshots are only compared, not decoded.
///
/// Source: the `_recv` and `_send` functions of src/backend/utils/adt; numbers in src/include/catalog/pg_type.dat.
enum PostgresType: Oid, Sendable {
  case bool = 16
  case bytea = 17
  case name = 19
  case int8 = 20
  case int2 = 21
  case int4 = 23
  case text = 25
  case json = 114
  case float8 = 701
  case unknown = 705
  case varchar = 1043
  case timestamptz = 1184
  case numeric = 1700
  case void = 2278
  case uuid = 2950
  case jsonb = 3802
  case snapshot = 5038

  /// 2000-01-01 in microseconds since 1970-01-01.
  static let epochMicroseconds: Int64 = 946_684_800_000_000
  static let jsonbVersion: UInt8 = 1

  init?(oid: Oid) {
    self.init(rawValue: oid)
  }

  /// - Returns: nil when the bytes are not a valid value of this type.
  func decode(_ bytes: UnsafeRawBufferPointer) -> SQLValue? {
    switch self {
    case .bool: bytes.count == 1 ? .bool(bytes[0] != 0) : nil
    case .bytea, .snapshot: .blob([UInt8](bytes))
    case .int2: Self.integer(bytes, Int16.self).map { .integer(Int64($0)) }
    case .int4: Self.integer(bytes, Int32.self).map { .integer(Int64($0)) }
    case .int8: Self.integer(bytes, Int64.self).map { .integer($0) }
    case .float8:
      Self.integer(bytes, UInt64.self).flatMap { Int64(exactly: Double(bitPattern: $0)) }.map { .integer($0) }
    case .numeric: Self.wholeNumber(bytes).map { .integer($0) }
    case .name, .text, .varchar, .json, .unknown: .text(String(decoding: bytes, as: UTF8.self))
    case .jsonb: bytes.first == Self.jsonbVersion ? .text(String(decoding: bytes.dropFirst(), as: UTF8.self)) : nil
    case .timestamptz: Self.integer(bytes, Int64.self).flatMap(Self.timestamp)
    case .uuid: bytes.count == 16 ? .uuid(UUID(uuid: bytes.loadUnaligned(as: uuid_t.self))) : nil
    case .void: .null
    }
  }

  private static func integer<Number: FixedWidthInteger>(_ bytes: UnsafeRawBufferPointer, _: Number.Type) -> Number? {
    guard bytes.count == MemoryLayout<Number>.size else { return nil }
    return Number(bigEndian: bytes.loadUnaligned(as: Number.self))
  }

  /// The two extreme values represent infinity, which has no `Date`.
  private static func timestamp(_ microseconds: Int64) -> SQLValue? {
    guard microseconds != .max, microseconds != .min else { return nil }
    let (sum, overflows) = microseconds.addingReportingOverflow(epochMicroseconds)
    return overflows ? nil : .timestamp(StoredTime.date(microseconds: sum))
  }

  /// Decodes a `numeric` without fraction: the server returns sums of integers in this type.
  private static func wholeNumber(_ bytes: UnsafeRawBufferPointer) -> Int64? {
    let words = stride(from: 0, to: bytes.count - 1, by: 2).map {
      Int16(bigEndian: bytes.loadUnaligned(fromByteOffset: $0, as: Int16.self))
    }
    guard words.count >= 4, words.count == 4 + Int(words[0]) else { return nil }
    let (weight, sign) = (Int(words[1]), UInt16(bitPattern: words[2]))
    guard sign == 0 || sign == 0x4000, words[0] == 0 || (0...4).contains(weight),
      words[0] == 0 || words.count - 5 <= weight
    else {
      return nil
    }
    var total: Int64 = 0
    guard words[0] > 0 else { return 0 }
    for position in 0...weight {
      let digit = position < Int(words[0]) ? Int64(words[4 + position]) : 0
      let (product, overflows) = total.multipliedReportingOverflow(by: 10_000)
      let (sum, exceeds) = product.addingReportingOverflow(digit)
      guard !overflows, !exceeds else { return nil }
      total = sum
    }
    return sign == 0 ? total : -total
  }
}
