/// Rows that look-ups found at one version of a database. Rows that are not there are not remembered.
struct RowCache: Sendable {
  struct Key: Hashable, Sendable {
    let sql: String
    let parameters: [SQLValue]

    /// The parameters tell the keys apart; the text only has to be compared.
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

  /// Takes a row that was read at this version.
  mutating func keep(_ row: SQLRow, _ key: Key) {
    guard row.textBytes <= Self.maximumRowBytes else { return }
    if rows.count >= Self.maximumRows { rows = [:] }
    rows[key] = row
  }

  /// Something was committed.
  mutating func advance() {
    version = version.next
    rows.removeAll(keepingCapacity: true)
  }
}
