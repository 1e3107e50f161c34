/// Which flavour of SQL a database speaks; selects the set of migrations.
///
/// Repositories are written once, in the SQL that both understand. The few expressions that differ are here.
package enum SQLDialect: String, Sendable, CaseIterable {
  case sqlite
  case postgresql

  /// Whether other programs may use the same database, so that what is going on cannot be told from this process alone.
  package var isShared: Bool { self == .postgresql }

  /// A condition that holds where a JSON object of strings has a pair; takes two parameters, key and value.
  /// - Parameter column: with its table's name.
  package func hasPair(in column: String) -> String {
    switch self {
    case .sqlite: "EXISTS (SELECT 1 FROM json_each(\(column)) AS pair WHERE pair.key = ? AND pair.value = ?)"
    case .postgresql: "\(column) ->> CAST(? AS text) = ?"
    }
  }
}
