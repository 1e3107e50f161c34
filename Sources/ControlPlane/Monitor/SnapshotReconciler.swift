import HostAPI
import Model
import Persistence

/// Decides what to do about a named snapshot, from its row and its state on a host. Compares states, has no memory,
/// does no I/O.
enum SnapshotReconciler {
  enum Action: Equatable {
    case none
    /// The files are complete: update the row.
    case publish
    /// Files without a row: insert a row, so that no data is lost.
    case adopt
    /// There are no files: delete the row.
    case deleteRow
    /// The snapshot is on another host, and this host has an older copy: remove it.
    case removeCopy
    case finishDelete
  }

  /// - Parameters:
  ///   - row: read before the host was queried.
  ///   - host: the snapshot on this host, which responded.
  ///   - isOverdue: whether no worker can be at work on the row any more.
  static func action(row: SnapshotRecord?, host: HostTemplate?, on hostID: HostID, isOverdue: Bool) -> Action {
    guard let row else { return host == nil ? .none : .adopt }
    let isHere = row.hostID == hostID
    switch row.status {
    case .deleting: return .finishDelete
    case .ready where !isHere: return host == nil ? .none : .removeCopy
    case .ready: return host == nil ? .deleteRow : .none
    case .creating where isHere, .replacing where isHere:
      if host != nil { return .publish }
      return isOverdue ? .deleteRow : .none
    case .creating, .replacing: return .none
    }
  }
}
