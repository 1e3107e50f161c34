/// The SQL dialect of a database system; selects the set of migrations.
///
/// Repositories use the SQL that both dialects understand. The few expressions that differ are defined here.
package enum SQLDialect: String, Sendable, CaseIterable {
  case sqlite
  case postgresql

  /// Whether other programs may use the same database, so that this process does not see all changes.
  package var isShared: Bool { self == .postgresql }

  /// The type of a column that holds a time.
  var timestampType: String {
    switch self {
    case .sqlite: "INTEGER"
    case .postgresql: "TIMESTAMPTZ"
    }
  }

  /// A condition on a JSON object with string values: it contains a given pair. Takes two parameters, key and value.
  /// - Parameter column: qualified with its table's name.
  package func hasPair(in column: String) -> String {
    switch self {
    case .sqlite: "EXISTS (SELECT 1 FROM json_each(\(column)) AS pair WHERE pair.key = ? AND pair.value = ?)"
    case .postgresql: "\(column) ->> CAST(? AS text) = ?"
    }
  }
}
