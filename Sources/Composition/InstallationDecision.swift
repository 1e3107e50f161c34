import Model
import Persistence

/// Decides whether a host may obey a database. Pure; `InstallationCheck` performs it.
struct InstallationDecision: Equatable {
  enum Outcome: Equatable {
    /// They belong together already.
    case proceed
    /// From now on the host belongs to the database.
    case bind
    case refuse
  }

  /// What `host.json` says.
  var host: InstallationID?
  /// What the database says, migrated or not.
  var database: InstallationRepository.Condition
  /// Sandboxes and named snapshots in the host's journal.
  var holdings: Int
  /// Whether rows of the database name the host, or a sandbox that it holds.
  var isKnown: Bool
  /// What the operator said with `--adopt`.
  var adopts: Bool

  var outcome: Outcome {
    if let host, database == .named(host) { return .proceed }
    if adopts { return .bind }
    // A data directory of an earlier version, or a new one.
    guard host == nil else { return .refuse }
    return holdings == 0 || isKnown ? .bind : .refuse
  }
}
