/// A lock that at most one of the programs on a database holds, for as long as it is connected.
package protocol LeaderLock: Sendable {
  /// Asks the database whether the lock is held here, and takes it when it is free.
  /// - Returns: false when another program holds it, or when the database does not answer; the lock is then not held here.
  func hold() async -> Bool
  /// Lets another program take the lock.
  func release() async
}

/// Of a database that one program has for itself.
package struct UncontestedLock: LeaderLock {
  package init() {}
  package func hold() async -> Bool { true }
  package func release() async {}
}
