import CLinux
import Concurrency
import Glibc

/// Lets any number of tasks wait until a descriptor (usually a pidfd) is readable, with one thread in epoll_wait(2).
package final class DescriptorWatcher: Sendable {
  package static let shared = DescriptorWatcher()

  private struct State {
    var epoll: Int32 = -1
    var nextKey: UInt64 = 1
    var waiting: [UInt64: (descriptor: Int32, continuation: CheckedContinuation<Bool, Never>)] = [:]
  }

  /// Pause before the caller may ask again, when the kernel has no descriptor or memory left to watch with.
  private static let retryDelay: Duration = .milliseconds(100)

  private let state = Mutex(State())

  package init() {}

  /// Returns once `descriptor` is readable, at once when the task is cancelled, or after `retryDelay` when the
  /// descriptor cannot be watched, so that a caller's loop does not spin while the process has no descriptor left.
  /// The caller checks the descriptor afterwards, and keeps it open until then.
  package func waitUntilReadable(_ descriptor: Int32) async {
    let key = state.withLock { state in
      defer { state.nextKey += 1 }
      return state.nextKey
    }
    let isWatched = await withTaskCancellationHandler {
      await withCheckedContinuation { continuation in
        if !register(key: key, descriptor: descriptor, continuation) { continuation.resume(returning: false) }
      }
    } onCancel: {
      finish(key: key)
    }
    // Cancellation ends the sleep too.
    if !isWatched { try? await Task.sleep(for: Self.retryDelay) }
  }

  private func register(key: UInt64, descriptor: Int32, _ continuation: CheckedContinuation<Bool, Never>) -> Bool {
    state.withLock { state in
      if Task.isCancelled { return false }
      if state.epoll < 0 {
        let epoll = epoll_create1(Int32(EPOLL_CLOEXEC))
        guard epoll >= 0 else { return false }
        state.epoll = epoll
        Threads.start(name: "descriptors") { self.loop(epoll: epoll) }
      }
      // One epoll instance accepts each descriptor only once, hence the duplicate.
      let duplicate = fcntl(descriptor, F_DUPFD_CLOEXEC, 3)
      guard duplicate >= 0 else { return false }
      var event = epoll_event(events: EPOLLIN.rawValue | EPOLLONESHOT.rawValue, data: epoll_data_t(u64: key))
      guard epoll_ctl(state.epoll, EPOLL_CTL_ADD, duplicate, &event) == 0 else {
        close(duplicate)
        return false
      }
      state.waiting[key] = (duplicate, continuation)
      return true
    }
  }

  private func finish(key: UInt64) {
    let continuation = state.withLock { state -> CheckedContinuation<Bool, Never>? in
      guard let entry = state.waiting.removeValue(forKey: key) else { return nil }
      epoll_ctl(state.epoll, EPOLL_CTL_DEL, entry.descriptor, nil)
      close(entry.descriptor)
      return entry.continuation
    }
    continuation?.resume(returning: true)
  }

  private func loop(epoll: Int32) {
    var events = [epoll_event](repeating: epoll_event(), count: 64)
    while true {
      let count = epoll_wait(epoll, &events, Int32(events.count), -1)
      if count < 0 && errno != EINTR { return }
      for event in events.prefix(Int(max(count, 0))) { finish(key: event.data.u64) }
    }
  }
}
