package import Foundation
import Model

/// One result row; columns are accessed by position, in the order of the query's select list.
package struct SQLRow: Sendable {
  private let values: [SQLValue]

  package init(_ values: [SQLValue]) {
    self.values = values
  }

  /// The total size of all texts and blobs.
  package var textBytes: Int {
    values.reduce(0) { sum, value in
      switch value {
      case .text(let text): sum + text.utf8.count
      case .blob(let bytes): sum + bytes.count
      default: sum
      }
    }
  }

  /// - Throws: `PersistenceError.corruptRow` when the column is missing, NULL or of another type.
  package func text(_ column: Int) throws -> String {
    guard case .text(let text) = try value(column) else { throw mismatch(column, "text") }
    return text
  }

  package func optionalText(_ column: Int) throws -> String? {
    try isNull(column) ? nil : text(column)
  }

  package func integer(_ column: Int) throws -> Int {
    guard case .integer(let number) = try value(column) else { throw mismatch(column, "an integer") }
    return Int(number)
  }

  package func optionalInteger(_ column: Int) throws -> Int? {
    try isNull(column) ? nil : integer(column)
  }

  package func blob(_ column: Int) throws -> [UInt8] {
    guard case .blob(let bytes) = try value(column) else { throw mismatch(column, "a blob") }
    return bytes
  }

  package func bool(_ column: Int) throws -> Bool {
    switch try value(column) {
    case .bool(let flag): return flag
    case .integer(let number): return number != 0
    default: throw mismatch(column, "a boolean")
    }
  }

  package func uuid(_ column: Int) throws -> UUID {
    switch try value(column) {
    case .uuid(let uuid): return uuid
    case .text(let text):
      guard let uuid = UUIDText.parse(text[...]) else { throw mismatch(column, "a UUID") }
      return uuid
    default: throw mismatch(column, "a UUID")
    }
  }

  package func optionalUUID(_ column: Int) throws -> UUID? {
    try isNull(column) ? nil : uuid(column)
  }

  package func date(_ column: Int) throws -> Date {
    switch try value(column) {
    case .timestamp(let date): return date
    case .integer(let microseconds): return StoredTime.date(microseconds: microseconds)
    default: throw mismatch(column, "a time")
    }
  }

  package func optionalDate(_ column: Int) throws -> Date? {
    try isNull(column) ? nil : date(column)
  }

  private func isNull(_ column: Int) throws -> Bool {
    try value(column) == .null
  }

  private func value(_ column: Int) throws -> SQLValue {
    guard values.indices.contains(column) else { throw mismatch(column, "present") }
    return values[column]
  }

  private func mismatch(_ column: Int, _ expected: String) -> PersistenceError {
    .corruptRow("column \(column) is not \(expected)")
  }
}
