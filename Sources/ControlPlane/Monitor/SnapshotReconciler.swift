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
    /// The row describes an older snapshot than the one that has its name on its host: the row follows the host.
    case follow
    /// Files without a row or a tombstone: quarantine them.
    case quarantine
    /// There are no files: delete the row.
    case deleteRow
    /// There is a tombstone for exactly these files: remove them.
    case removeFiles
    /// The snapshot is on another host, and there is a tombstone for the copy on this host: remove it.
    case removeCopy
    case finishDelete
  }

  /// - Parameters:
  ///   - row: read before the host was queried.
  ///   - host: the snapshot on this host, which responded.
  ///   - isOverdue: whether no worker can be at work on the row any more.
  ///   - isDeleted: whether there is a tombstone for the host's snapshot.
  static func action(
    row: SnapshotRecord?, host: HostTemplate?, on hostID: HostID, isOverdue: Bool, isDeleted: Bool
  ) -> Action {
    guard let row else { return unknown(host, isDeleted: isDeleted) }
    let isHere = row.hostID == hostID
    switch row.status {
    case .deleting:
      guard let host, !SnapshotMoment.isSame(host.createdAt, row.createdAt) else { return .finishDelete }
      // The name was used again after the backup that this row comes from.
      return isDeleted ? .removeFiles : .quarantine
    case .ready where !isHere:
      guard host != nil else { return .none }
      return isDeleted ? .removeCopy : .quarantine
    case .ready:
      guard let host else { return .deleteRow }
      guard !SnapshotMoment.isSame(host.createdAt, row.createdAt) else { return .none }
      return isDeleted ? .removeFiles : .follow
    case .creating where isHere, .replacing where isHere:
      if host != nil { return .publish }
      return isOverdue ? .deleteRow : .none
    case .creating, .replacing: return .none
    }
  }

  private static func unknown(_ host: HostTemplate?, isDeleted: Bool) -> Action {
    guard host != nil else { return .none }
    return isDeleted ? .removeFiles : .quarantine
  }

  /// Whether the answer to `isDeleted` matters.
  static func needsTombstone(row: SnapshotRecord?, host: HostTemplate) -> Bool {
    guard let row else { return true }
    return !SnapshotMoment.isSame(host.createdAt, row.createdAt)
  }
}
