package import Foundation

/// A value on its way into or out of the database.
///
/// Drivers choose the column representation: SQLite keeps UUIDs as lower-case text and times as integer microseconds
/// since 1970, PostgreSQL has types for both. Repositories read through the typed accessors of `SQLRow` and never see
/// the difference.
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

/// Times are stored with this resolution in every dialect, so that what is written compares equal to what is read.
package enum StoredTime {
  /// The years 0 to 9999, in microseconds since 1970: what every dialect can hold and every client can write.
  package static let range: ClosedRange<Int64> = -62_167_219_200_000_000...253_402_300_799_999_999

  /// The nearest end of `range` for a time outside of it: comparisons with it come out right, as nothing that is stored
  /// lies beyond.
  package static func microseconds(_ date: Date) -> Int64 {
    let microseconds = (date.timeIntervalSince1970 * 1_000_000).rounded()
    guard microseconds > Double(range.lowerBound) else { return range.lowerBound }
    guard microseconds < Double(range.upperBound) else { return range.upperBound }
    return Int64(microseconds)
  }

  package static func date(microseconds: Int64) -> Date {
    Date(timeIntervalSince1970: Double(microseconds) / 1_000_000)
  }

  /// `date` as it will come back from the database.
  package static func rounded(_ date: Date) -> Date {
    self.date(microseconds: microseconds(date))
  }
}
