package import Glibc

/// A value that only one thread at a time can access. Same interface as `Synchronization.Mutex`, which must not be used
/// here for two reasons:
///
/// - On Linux its lock operation is inlined down to the look-up of the thread id. In an optimised `async` function that
///   takes the lock after an `await` on several paths, the compiler hoists the look-up above the `await` and keeps its
///   result across a change of threads: the lock is then taken with the id of another thread, and the unlock ends the
///   process. Seen with Swift 6.3 in `HostRoutes.session`, which HostRPCTests exercise, and in the code of log-in and
///   of publishing snapshots. Functions of pthreads are never inlined.
/// - It uses priority-inheriting futexes, so the kernel hands over a contended lock each time
///   (https://github.com/swiftlang/swift/issues/88440).
///
/// Not recursive. The lock is allocated on the heap, so a mutex should be long-lived.
package struct Mutex<Value: ~Copyable>: ~Copyable {
  @usableFromInline let lock: UnsafeMutablePointer<pthread_mutex_t>
  @usableFromInline let value: UnsafeMutablePointer<Value>

  @inlinable
  package init(_ initialValue: consuming sending Value) {
    lock = .allocate(capacity: 1)
    lock.initialize(to: pthread_mutex_t())
    let status = pthread_mutex_init(lock, nil)
    precondition(status == 0, "a mutex cannot be made")
    value = .allocate(capacity: 1)
    value.initialize(to: initialValue)
  }

  deinit {
    value.deinitialize(count: 1)
    value.deallocate()
    pthread_mutex_destroy(lock)
    lock.deallocate()
  }

  /// Runs `body` while no other thread runs one. `body` must not take the same lock and cannot await.
  @inlinable
  package borrowing func withLock<Result: ~Copyable, Failure: Error>(
    _ body: (inout sending Value) throws(Failure) -> sending Result
  ) throws(Failure) -> sending Result {
    let locked = pthread_mutex_lock(lock)
    precondition(locked == 0, "a mutex cannot be locked")
    defer {
      let unlocked = pthread_mutex_unlock(lock)
      precondition(unlocked == 0, "a mutex cannot be unlocked")
    }
    return try body(&value.pointee)
  }
}

extension Mutex: @unchecked Sendable where Value: ~Copyable {}
