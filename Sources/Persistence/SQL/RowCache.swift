/// Rows that look-ups found at one version of a database. Missing rows are not cached.
struct RowCache: Sendable {
  struct Key: Hashable, Sendable {
    let sql: String
    let parameters: [SQLValue]

    /// Hashes only the parameters, which distinguish most keys; `==` compares the SQL text too.
    func hash(into hasher: inout Hasher) {
      hasher.combine(parameters)
    }
  }

  /// With rows of at most `maximumRowBytes` this is a few mebibytes.
  static let maximumRows = 1_024
  static let maximumRowBytes = 4_096

  private(set) var version = DatabaseVersion()
  private var rows: [Key: SQLRow] = [:]

  subscript(key: Key) -> SQLRow? { rows[key] }

  /// Caches a row that was read at this version.
  mutating func keep(_ row: SQLRow, _ key: Key) {
    guard row.textBytes <= Self.maximumRowBytes else { return }
    if rows.count >= Self.maximumRows { rows = [:] }
    rows[key] = row
  }

  /// Discards all rows; to be called after a commit.
  mutating func advance() {
    version = version.next
    rows.removeAll(keepingCapacity: true)
  }
}
