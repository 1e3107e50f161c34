package import Foundation

/// A database value: a statement parameter or a column of a result.
///
/// Drivers choose the column representation: SQLite stores UUIDs as lower-case text and times as integer microseconds
/// since 1970; PostgreSQL has types for both. Repositories use the typed accessors of `SQLRow`, which hide the
/// difference.
package enum SQLValue: Sendable, Hashable {
  case null
  case integer(Int64)
  case text(String)
  case blob([UInt8])
  case bool(Bool)
  case uuid(UUID)
  case timestamp(Date)
}

extension SQLValue {
  package static func optional(_ text: String?) -> SQLValue { text.map(SQLValue.text) ?? .null }
  package static func optional(_ uuid: UUID?) -> SQLValue { uuid.map(SQLValue.uuid) ?? .null }
  package static func optional(_ date: Date?) -> SQLValue { date.map(SQLValue.timestamp) ?? .null }
  package static func optional(_ value: Int?) -> SQLValue { value.map { .integer(Int64($0)) } ?? .null }
  package static func integer(_ value: Int) -> SQLValue { .integer(Int64(value)) }
}

/// Times are stored with microsecond resolution in every dialect, so that a written value compares equal when it is
/// read.
package enum StoredTime {
  /// The years 0 to 9999, in microseconds since 1970: the range that every dialect can store and every client can
  /// format.
  package static let range: ClosedRange<Int64> = -62_167_219_200_000_000...253_402_300_799_999_999

  /// Clamps times outside of `range`. Comparisons with a clamped time are correct, as no stored time lies beyond the
  /// range.
  package static func microseconds(_ date: Date) -> Int64 {
    let microseconds = (date.timeIntervalSince1970 * 1_000_000).rounded()
    guard microseconds > Double(range.lowerBound) else { return range.lowerBound }
    guard microseconds < Double(range.upperBound) else { return range.upperBound }
    return Int64(microseconds)
  }

  package static func date(microseconds: Int64) -> Date {
    Date(timeIntervalSince1970: Double(microseconds) / 1_000_000)
  }

  /// `date` with the resolution with which the database returns it.
  package static func rounded(_ date: Date) -> Date {
    self.date(microseconds: microseconds(date))
  }
}
