import CLinux
import Concurrency
import Glibc
package import LinuxSystem

import struct Synchronization.Atomic

/// A thread in epoll_wait(2) that calls a handler when a watched descriptor is ready.
///
/// Registrations are one-shot: after each call the handler arms its registration again to get more. It does not while
/// its consumers are slow, and so back-pressure reaches the process. Handlers run on the poller's thread, one at a
/// time, and must not block. `LinuxSystem.DescriptorWatcher` is for tasks that wait; this type is for descriptors that
/// are ready thousands of times a second, for which the other one would need five system calls each time.
package final class DescriptorPoller: Sendable {
  /// Size of the buffer that handlers may use during their call: one chunk of output (E2B's envd contract: at most 32
  /// KiB).
  package static let scratchBytes = 32 * 1024

  package typealias Handler = @Sendable (UnsafeMutableRawBufferPointer) -> Void

  package enum Interest: Sendable {
    case readable
    case writable

    fileprivate var events: UInt32 { self == .readable ? EPOLLIN.rawValue : EPOLLOUT.rawValue }
  }

  /// A watched descriptor. Cancel the registration before the descriptor is closed.
  package final class Registration: Sendable {
    package let descriptor: OwnedDescriptor
    private let poller: DescriptorPoller
    private let key: UInt64
    private let interest: Interest

    fileprivate init(descriptor: OwnedDescriptor, poller: DescriptorPoller, key: UInt64, interest: Interest) {
      self.descriptor = descriptor
      self.poller = poller
      self.key = key
      self.interest = interest
    }

    /// Allows one more call of the handler. Any thread may call this.
    package func arm() {
      var event = epoll_event(events: interest.events | EPOLLONESHOT.rawValue, data: epoll_data_t(u64: key))
      epoll_ctl(poller.epoll.rawValue, EPOLL_CTL_MOD, descriptor.rawValue, &event)
    }

    /// Ends the calls, except for one that is running on the poller's thread. Idempotent.
    package func cancel() {
      guard poller.handlers.withLock({ $0.removeValue(forKey: key) }) != nil else { return }
      epoll_ctl(poller.epoll.rawValue, EPOLL_CTL_DEL, descriptor.rawValue, nil)
    }
  }

  private static let eventsPerWait = 64
  private static let stopKey: UInt64 = 0

  private let epoll: OwnedDescriptor
  private let stopEvent: OwnedDescriptor
  private let handlers = Mutex<[UInt64: Handler]>([:])
  private let lastKey = Atomic<UInt64>(stopKey)

  package init() throws(SystemError) {
    epoll = OwnedDescriptor(try SystemError.check("epoll_create1") { epoll_create1(Int32(EPOLL_CLOEXEC)) })
    stopEvent = try OwnedDescriptor.eventDescriptor()
    var event = epoll_event(events: EPOLLIN.rawValue, data: epoll_data_t(u64: Self.stopKey))
    try SystemError.check("epoll_ctl") { epoll_ctl(epoll.rawValue, EPOLL_CTL_ADD, stopEvent.rawValue, &event) }
    Threads.start(name: "process-io") { self.run() }
  }

  /// Starts to watch a descriptor. The registration is not armed yet. The handler gets the scratch buffer.
  package func add(
    _ descriptor: OwnedDescriptor, _ interest: Interest, handler: @escaping Handler
  ) throws(SystemError) -> Registration {
    let key = lastKey.wrappingAdd(1, ordering: .relaxed).newValue
    handlers.withLock { $0[key] = handler }
    var event = epoll_event(events: EPOLLONESHOT.rawValue, data: epoll_data_t(u64: key))
    do {
      try SystemError.check("epoll_ctl") { epoll_ctl(epoll.rawValue, EPOLL_CTL_ADD, descriptor.rawValue, &event) }
    } catch {
      _ = handlers.withLock { $0.removeValue(forKey: key) }
      throw error
    }
    return Registration(descriptor: descriptor, poller: self, key: key, interest: interest)
  }

  /// Ends the thread. No handler is called after the thread has noticed.
  package func stop() {
    var one: UInt64 = 1
    _ = write(stopEvent.rawValue, &one, MemoryLayout<UInt64>.size)
  }

  private func run() {
    let scratch = UnsafeMutableRawBufferPointer.allocate(byteCount: Self.scratchBytes, alignment: 16)
    defer { scratch.deallocate() }
    var events = [epoll_event](repeating: epoll_event(), count: Self.eventsPerWait)
    while true {
      let count = epoll_wait(epoll.rawValue, &events, Int32(events.count), -1)
      if count < 0 && errno != EINTR { return }
      for event in events.prefix(Int(max(count, 0))) {
        guard event.data.u64 != Self.stopKey else { return handlers.withLock { $0.removeAll() } }
        let handler = handlers.withLock { $0[event.data.u64] }
        handler?(scratch)
      }
    }
  }
}
