package import Foundation
import Logging
package import Persistence

/// Whether this control plane does the background work of all that share its database (MO-4, L-34).
///
/// On SQLite it always does. On PostgreSQL the one that holds an advisory lock does: losing the connection is losing the lock, and
/// whoever asks first afterwards gets it. Ask before each round of work; changes themselves are guarded by compare-and-set.
package actor Leadership {
  /// How long no other control plane must have been seen before its work counts as abandoned.
  package static let solitude: TimeInterval = 10

  private let lock: any LeaderLock
  private let isContested: Bool
  private let surroundings: Surroundings
  private var standing = LeaderStanding.follower
  private var aloneSince: Date?

  package init(database: any Database, surroundings: Surroundings) {
    lock = database.makeLeaderLock()
    isContested = database.dialect.isShared
    self.surroundings = surroundings
  }

  /// Asks the database. Call it at the beginning of a round of work.
  package func isLeader() async -> Bool {
    let found = await lock.hold()
    note(found)
    return found != .follower
  }

  /// As of the last answer of the database; for work that does no harm when somebody else does it too. Does not ask: the end of a leadership
  /// is told of once, and that is for who asks in `isLeader`.
  var leads: Bool { !isContested || standing != .follower }

  /// Whether a sandbox on which nobody works here is worked on nowhere; as of the last answer of the database.
  var isAlone: Bool {
    guard isContested else { return true }
    guard let aloneSince else { return false }
    return surroundings.now().timeIntervalSince(aloneSince) >= Self.solitude
  }

  /// Lets another control plane take over at once.
  package func resign() async {
    await lock.release()
    note(.follower)
  }

  private func note(_ found: LeaderStanding) {
    if isContested, (found == .follower) != (standing == .follower) {
      surroundings.logger.info(found == .follower ? "leadership ended" : "leadership began")
    }
    standing = found
    aloneSince = found == .leader(isAlone: true) ? aloneSince ?? surroundings.now() : nil
  }
}
