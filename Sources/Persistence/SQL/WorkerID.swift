/// Identifies a run of a control plane, from start to end. Each row stores the worker that changed it last, which tells
/// changes that a worker is still making from changes that a dead worker left unfinished.
package struct WorkerID: Sendable, Hashable {
  /// Not negative.
  package let number: Int32

  package init(number: Int32) {
    self.number = number
  }

  package static func random() -> WorkerID { WorkerID(number: .random(in: 0...(.max))) }

  var value: SQLValue { .integer(Int64(number)) }

  /// - Returns: nil for a row that was written before the column existed.
  init?(_ row: SQLRow, _ column: Int) throws {
    guard let number = try row.optionalInteger(column).flatMap({ Int32(exactly: $0) }) else { return nil }
    self.number = number
  }
}
