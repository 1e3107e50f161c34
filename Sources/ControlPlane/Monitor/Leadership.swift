package import Foundation
import Logging
package import Persistence

/// Whether this control plane does the background work of all that share its database (MO-4, L-34).
///
/// On SQLite it always does. On PostgreSQL the one that holds an advisory lock does: losing the connection is losing
/// the lock, and whoever asks first afterwards gets it. Ask before each round of work; changes themselves are guarded
/// by compare-and-set.
package actor Leadership {
  /// How long a control plane must not have been seen before its work counts as abandoned. After an absence of the
  /// database all are back within that time.
  package static let absence: TimeInterval = 5

  private let lock: any LeaderLock
  private let ownWorker: WorkerID
  private let isContested: Bool
  private let dependencies: Dependencies
  private var state = LeadershipState.follower
  /// When a round of ours was the first to find us the leader.
  private var leadsSince: Date?
  private var lastSeen: [WorkerID: Date] = [:]

  package init(database: any Database, dependencies: Dependencies) {
    lock = database.makeLeaderLock()
    ownWorker = database.worker
    isContested = database.dialect.isShared
    self.dependencies = dependencies
  }

  /// Asks the database. Call it at the beginning of a round of work.
  package func isLeader() async -> Bool {
    let found = await lock.tryAcquire()
    note(found)
    return found != .follower
  }

  /// As of the last answer of the database; for work that does no harm when somebody else does it too. Does not ask:
  /// the end of a leadership is told of once, and that is for who asks in `isLeader`.
  var leads: Bool { !isContested || state != .follower }

  /// Whether another program may still be at work on what it has begun; as of the last answer of the database. Who is
  /// not the leader knows nobody and takes all to be there.
  func isElsewhere(_ worker: WorkerID?) -> Bool {
    guard isContested, worker != ownWorker else { return false }
    guard let worker, let seen = lastSeen[worker] ?? leadsSince else { return true }
    return dependencies.now().timeIntervalSince(seen) < Self.absence
  }

  /// Lets another control plane take over at once.
  package func resign() async {
    await lock.release()
    note(.follower)
  }

  private func note(_ found: LeadershipState) {
    if isContested, (found == .follower) != (state == .follower) {
      dependencies.logger.info(found == .follower ? "leadership ended" : "leadership began")
    }
    state = found
    guard case .leader(let workers) = found else { return (leadsSince, lastSeen) = (nil, [:]) }
    let now = dependencies.now()
    leadsSince = leadsSince ?? now
    for worker in workers { lastSeen[worker] = now }
    lastSeen = lastSeen.filter { now.timeIntervalSince($0.value) < Self.absence }
  }
}
