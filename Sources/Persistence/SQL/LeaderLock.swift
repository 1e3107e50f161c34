/// A lock that at most one of the programs on a database holds, for as long as it is connected.
package protocol LeaderLock: Sendable {
  /// Makes this program known to the others, asks the database whether the lock is held here, and takes it when it is free.
  func hold() async -> LeaderStanding
  /// Lets another program take the lock, and is no longer known to the others.
  func release() async
}

package enum LeaderStanding: Sendable, Equatable {
  /// Another program holds the lock, or the database does not answer, or did not for a while; the lock is not held here.
  case follower
  /// - isAlone: no other program is known on this database at this moment.
  case leader(isAlone: Bool)
}

/// Of a database that one program has for itself.
package struct UncontestedLock: LeaderLock {
  package init() {}
  package func hold() async -> LeaderStanding { .leader(isAlone: true) }
  package func release() async {}
}
