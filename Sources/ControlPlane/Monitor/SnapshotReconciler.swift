import HostAPI
import Model
import Persistence

/// Decides what to do about a named snapshot in the database (row) and on a host. Compares states, has no memory, does
/// no I/O.
enum SnapshotReconciler {
  enum Action: Equatable {
    case none
    /// The files are there: the row says so.
    case publish
    /// Files that no row knows: take them up, so that nothing is lost.
    case adopt
    /// There are no files: the row goes.
    case forget
    /// The name is another host's: an older copy, which nobody can use.
    case removeCopy
    case finishDelete
  }

  /// - Parameters:
  ///   - row: read before the host was asked.
  ///   - host: the snapshot on this host, which did answer.
  ///   - isOverdue: whether nobody can be at work on the row any more.
  static func action(row: SnapshotRecord?, host: HostTemplate?, on hostID: HostID, isOverdue: Bool) -> Action {
    guard let row else { return host == nil ? .none : .adopt }
    let isHere = row.hostID == hostID
    switch row.status {
    case .deleting: return .finishDelete
    case .ready where !isHere: return host == nil ? .none : .removeCopy
    case .ready: return host == nil ? .forget : .none
    case .creating where isHere, .replacing where isHere:
      if host != nil { return .publish }
      return isOverdue ? .forget : .none
    case .creating, .replacing: return .none
    }
  }
}
