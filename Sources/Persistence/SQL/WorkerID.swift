/// A program that changes rows, from its start to its end. Each row says whose change was the last, so that what
/// somebody left half made can be told from what somebody is at work on.
package struct WorkerID: Sendable, Hashable {
  /// Not negative.
  package let number: Int32

  package init(number: Int32) {
    self.number = number
  }

  package static func random() -> WorkerID { WorkerID(number: .random(in: 0...(.max))) }

  var value: SQLValue { .integer(Int64(number)) }

  /// - Returns: nil for a row from before there were workers.
  init?(_ row: SQLRow, _ column: Int) throws {
    guard let number = try row.optionalInteger(column).flatMap({ Int32(exactly: $0) }) else { return nil }
    self.number = number
  }
}
