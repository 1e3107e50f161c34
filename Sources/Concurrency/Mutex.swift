package import Glibc

/// A value that one thread at a time gets to see. Does what `Synchronization.Mutex` does and has its interface, for two
/// reasons:
///
/// - On Linux that one is inlined down to the look-up of the thread's id. In an optimised `async` function that takes
///   it behind an `await` on several paths, the compiler looks before the `await` and keeps the place in the frame,
///   over a change of threads: the lock is taken in another thread's name, and the unlock ends the process. Seen with
///   Swift 6.3 in `HostRoutes.session`, which HostRPCTests exercise; the same code came out of log-in and of publishing
///   snapshots. Functions of pthreads are never inlined.
/// - Its futex inherits priorities, so a contended lock is handed over by the kernel each time
///   (https://github.com/swiftlang/swift/issues/88440).
///
/// Not recursive. The lock is on the heap, so make few, for long.
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

  /// Runs `body` when no other thread runs one. It must not take the same lock, and cannot wait for anything
  /// asynchronous.
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
