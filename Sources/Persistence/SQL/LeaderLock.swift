/// A lock that at most one of the programs on a database holds, for as long as it is connected.
package protocol LeaderLock: Sendable {
  /// Makes this program known to the others, asks the database whether the lock is held here, and takes it when it is
  /// free.
  func hold() async -> LeadershipState
  /// Lets another program take the lock, and is no longer known to the others.
  func release() async
}

package enum LeadershipState: Sendable, Equatable {
  /// Another program holds the lock, or the database does not answer, or did not for a while; the lock is not held
  /// here.
  case follower
  /// - workers: the programs that are connected to the database at this moment, this one among them.
  case leader(workers: Set<WorkerID>)
}

/// Of a database that one program has for itself.
package struct UncontestedLock: LeaderLock {
  private let worker: WorkerID

  package init(worker: WorkerID) {
    self.worker = worker
  }

  package func hold() async -> LeadershipState { .leader(workers: [worker]) }
  package func release() async {}
}
