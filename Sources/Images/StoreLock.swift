import Glibc
import LinuxSystem
import SystemPackage

/// The store's writer lock: one builder or collection at a time, across processes. The kernel releases it when its
/// holder dies. Source: flock(2).
struct StoreLock: Sendable {
  private let descriptor: OwnedDescriptor

  /// Returns nil when another process or builder holds the lock.
  static func tryAcquire(_ path: FilePath) throws(SystemError) -> StoreLock? {
    try Directories.create(path.removingLastComponent())
    let descriptor = try OwnedDescriptor.open(path.string, O_RDWR | O_CREAT, mode: 0o600)
    guard flock(descriptor.rawValue, LOCK_EX | LOCK_NB) == 0 else {
      let error = SystemError.current("flock", subject: path.string)
      guard error.errno == .wouldBlock else { throw error }
      return nil
    }
    return StoreLock(descriptor: descriptor)
  }

  /// Waits for the lock until the deadline. Returns nil when the deadline has passed.
  static func acquire(_ path: FilePath, within deadline: Duration) async throws -> StoreLock? {
    let end = ContinuousClock.now + deadline
    while true {
      if let lock = try tryAcquire(path) { return lock }
      guard ContinuousClock.now < end else { return nil }
      try await Task.sleep(for: .milliseconds(100))
    }
  }

  func release() { descriptor.close() }
}
