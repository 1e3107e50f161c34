import CPostgres

/// A statement that the server has prepared on one connection.
struct PostgresStatement {
  let name: String
  let parameterTypes: [Oid]
}

/// What is prepared on one connection, by the text that repositories use.
struct PostgresStatements {
  /// Beyond this all are forgotten, on the server too; lists with filters come in many forms.
  static let maximumCount = 256

  private var known: [String: PostgresStatement] = [:]
  private var made = 0

  var isFull: Bool { known.count >= Self.maximumCount }

  subscript(sql: String) -> PostgresStatement? { known[sql] }

  mutating func nextName() -> String {
    made += 1
    return "martlet_\(made)"
  }

  mutating func keep(_ statement: PostgresStatement, for sql: String) {
    known[sql] = statement
  }

  mutating func removeAll() {
    known.removeAll()
  }

  /// `?`, the placeholder of `SQLConnection`, becomes `$1`, `$2`, …
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
