package import Foundation

/// A position in a list that is ordered by time and then by id.
package struct ListPosition: Sendable, Equatable {
  package var microseconds: Int64
  package var id: UUID

  package init(microseconds: Int64, id: UUID) {
    self.microseconds = microseconds
    self.id = id
  }

  package init(_ time: Date, _ id: UUID) {
    self.init(microseconds: StoredTime.microseconds(time), id: id)
  }

  var time: SQLValue { .timestamp(StoredTime.date(microseconds: microseconds)) }
}

/// A page of a list that is ordered by time and then by id, oldest first.
package struct ListPage: Sendable, Equatable {
  package var limit: Int
  package var after: ListPosition?

  package init(limit: Int, after: ListPosition? = nil) {
    self.limit = limit
    self.after = after
  }

  /// The end of an SQL statement that already has a WHERE clause.
  func clause(time: String, id: String) -> (sql: String, parameters: [SQLValue]) {
    let order = " ORDER BY \(time), \(id) LIMIT ?"
    guard let after else { return (order, [.integer(limit)]) }
    return (
      " AND (\(time) > ? OR (\(time) = ? AND \(id) > ?))\(order)",
      [after.time, after.time, .uuid(after.id), .integer(limit)]
    )
  }
}
