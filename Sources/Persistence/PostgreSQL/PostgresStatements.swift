import CPostgres

/// A statement that the server has prepared on one connection.
struct PostgresStatement {
  let name: String
  let parameterTypes: [Oid]
}

/// The prepared statements of one connection, keyed by their SQL text with `?` placeholders.
struct PostgresStatements {
  /// When this many statements are prepared, all are deallocated, on the server too: filtered lists yield many
  /// different texts.
  static let maximumCount = 256

  private var known: [String: PostgresStatement] = [:]
  private var preparedCount = 0

  var isFull: Bool { known.count >= Self.maximumCount }

  subscript(sql: String) -> PostgresStatement? { known[sql] }

  mutating func nextName() -> String {
    preparedCount += 1
    return "martlet_\(preparedCount)"
  }

  mutating func keep(_ statement: PostgresStatement, for sql: String) {
    known[sql] = statement
  }

  mutating func removeAll() {
    known.removeAll()
  }

  /// Replaces each `?`, the placeholder of `SQLConnection`, by `$1`, `$2`, …
  static func numbered(_ sql: String) -> String {
    var result = ""
    result.reserveCapacity(sql.utf8.count + 32)
    var count = 0
    for character in sql {
      guard character == "?" else {
        result.append(character)
        continue
      }
      count += 1
      result += "$\(count)"
    }
    return result
  }
}
