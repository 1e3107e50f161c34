package import Foundation
import Logging
package import Persistence

/// Determines whether this control plane does the background work for all control planes on its database.
///
/// On SQLite it always does. On PostgreSQL the holder of an advisory lock does: losing the database connection loses
/// the lock, and the next control plane that tries to acquire it becomes the leader. `isLeader` must be called before
/// each round of work. Changes themselves are protected by compare-and-set.
package actor Leadership {
  /// A worker that was not connected for this many seconds is considered dead. After an outage of the database all
  /// living workers reconnect within this time.
  package static let absence: TimeInterval = 5

  private let lock: any LeaderLock
  private let ownWorker: WorkerID
  private let isContested: Bool
  private let dependencies: Dependencies
  private var state = LeadershipState.follower
  /// When `isLeader` first found this control plane to be the leader, without interruption since then.
  private var leadsSince: Date?
  private var lastSeen: [WorkerID: Date] = [:]

  package init(database: any Database, dependencies: Dependencies) {
    lock = database.makeLeaderLock()
    ownWorker = database.worker
    isContested = database.dialect.isShared
    self.dependencies = dependencies
  }

  /// Queries the database. To be called at the beginning of a round of work.
  package func isLeader() async -> Bool {
    let newState = await lock.tryAcquire()
    update(newState)
    return newState != .follower
  }

  /// The result of the last query; for work that is harmless if two control planes do it. Does not query the database:
  /// the end of a leadership is reported only once, which `isLeader` must not miss.
  var wasLeader: Bool { !isContested || state != .follower }

  /// Whether a worker of another control plane may still be alive and continue the work that it began; as of the last
  /// query. A follower does not know the connected workers and assumes that all are alive.
  func mayBeAlive(_ worker: WorkerID?) -> Bool {
    guard isContested, worker != ownWorker else { return false }
    guard let worker, let seen = lastSeen[worker] ?? leadsSince else { return true }
    return dependencies.now().timeIntervalSince(seen) < Self.absence
  }

  /// Releases the leadership, so that another control plane can take over at once.
  package func resign() async {
    await lock.release()
    update(.follower)
  }

  private func update(_ newState: LeadershipState) {
    if isContested, (newState == .follower) != (state == .follower) {
      dependencies.logger.info(newState == .follower ? "leadership lost" : "leadership acquired")
    }
    state = newState
    guard case .leader(let workers) = newState else { return (leadsSince, lastSeen) = (nil, [:]) }
    let now = dependencies.now()
    leadsSince = leadsSince ?? now
    for worker in workers { lastSeen[worker] = now }
    lastSeen = lastSeen.filter { now.timeIntervalSince($0.value) < Self.absence }
  }
}
