/// A lock that at most one of the connected programs on a database holds; its holder is the leader.
package protocol LeaderLock: Sendable {
  /// Registers this worker with the database and acquires the lock if it is free or already held here.
  /// - Returns: the role of this program now.
  func tryAcquire() async -> LeadershipState
  /// Releases the lock and the worker's registration.
  func release() async
}

package enum LeadershipState: Sendable, Equatable {
  /// Another program holds the lock, or the database does not respond, or the connection that held the lock was lost.
  case follower
  /// - workers: the workers that are connected to the database at this moment, including this one.
  case leader(workers: Set<WorkerID>)
}

/// The leader lock of a database that only one program uses.
package struct UncontestedLock: LeaderLock {
  private let worker: WorkerID

  package init(worker: WorkerID) {
    self.worker = worker
  }

  package func tryAcquire() async -> LeadershipState { .leader(workers: [worker]) }
  package func release() async {}
}
