import Concurrency
package import FoundationEssentials
import Glibc
package import LinuxSystem

/// Why input could not be written.
package enum InputError: Error, Sendable, Equatable {
  /// `close()` was called or the process has ended.
  case closed
  /// The process has closed its end (EPIPE), or another error of write(2).
  case failed(SystemError)
  /// More than `InputWriter.queueLimitBytes` are queued.
  case overflow
}

/// Writes to a process's standard input or terminal in the order of the calls, without blocking a thread.
///
/// `write` returns when the kernel has taken the bytes, so a slow process slows its writers down.
package final class InputWriter: Sendable {
  package static let queueLimitBytes = 16 * 1024 * 1024

  private struct Entry {
    let id: UInt64
    let bytes: Data
    var offset = 0
    let continuation: CheckedContinuation<Void, any Error>
  }

  private struct State {
    var registration: DescriptorPoller.Registration?
    var queue: [Entry] = []
    var queuedBytes = 0
    var nextID: UInt64 = 1
    /// No more input is accepted. The descriptor is closed when the queue is empty.
    var isClosing = false
  }

  private let state = Mutex(State())

  /// - Parameter descriptor: non-blocking; the writer owns it.
  package init(_ descriptor: OwnedDescriptor, poller: DescriptorPoller) throws(SystemError) {
    let registration = try poller.add(descriptor, .writable) { [weak self] _ in self?.becameWritable() }
    state.withLock { $0.registration = registration }
  }

  package func write(_ bytes: Data) async throws {
    guard !bytes.isEmpty else { return }
    let id = state.withLock { state in
      defer { state.nextID += 1 }
      return state.nextID
    }
    try await withTaskCancellationHandler {
      try await withCheckedThrowingContinuation { continuation in
        enqueue(Entry(id: id, bytes: bytes, continuation: continuation))
      }
    } onCancel: {
      cancel(id)
    }
  }

  /// Closes the descriptor after all queued input has been written. Idempotent.
  package func close() {
    state.withLock { state in
      state.isClosing = true
      if state.queue.isEmpty { Self.release(&state) }
    }
  }

  /// Closes the descriptor at once. Waiting writers fail with `closed`. Idempotent.
  package func abort() {
    let waiting = state.withLock { state in
      state.isClosing = true
      return Self.drain(&state)
    }
    for entry in waiting { entry.continuation.resume(throwing: InputError.closed) }
  }

  private func enqueue(_ entry: Entry) {
    let failure = state.withLock { state -> (any Error)? in
      if Task.isCancelled { return CancellationError() }
      guard !state.isClosing, state.registration != nil else { return InputError.closed }
      guard state.queuedBytes + entry.bytes.count <= Self.queueLimitBytes else { return InputError.overflow }
      state.queue.append(entry)
      state.queuedBytes += entry.bytes.count
      if state.queue.count == 1 { state.registration?.arm() }
      return nil
    }
    if let failure { entry.continuation.resume(throwing: failure) }
  }

  private func cancel(_ id: UInt64) {
    let entry = state.withLock { state -> Entry? in
      guard let index = state.queue.firstIndex(where: { $0.id == id }) else { return nil }
      let entry = state.queue.remove(at: index)
      state.queuedBytes -= entry.bytes.count
      if state.queue.isEmpty && state.isClosing { Self.release(&state) }
      return entry
    }
    entry?.continuation.resume(throwing: CancellationError())
  }

  private func becameWritable() {
    var done: [Entry] = []
    var failure: SystemError?
    state.withLock { state in
      while let entry = state.queue.first, let registration = state.registration {
        switch Self.writeSome(entry, to: registration.descriptor.rawValue) {
        case .success(let count) where entry.offset + count == entry.bytes.count:
          done.append(state.queue.removeFirst())
          state.queuedBytes -= entry.bytes.count
        case .success(let count):
          state.queue[0].offset += count
          return registration.arm()
        case .failure(let error):
          failure = error
          return
        }
      }
      if state.isClosing { Self.release(&state) }
    }
    for entry in done { entry.continuation.resume() }
    if let failure { fail(failure) }
  }

  /// The number of bytes written; 0 when the descriptor is full.
  private static func writeSome(_ entry: Entry, to descriptor: Int32) -> Result<Int, SystemError> {
    let count = entry.bytes.withUnsafeBytes { bytes in
      Glibc.write(descriptor, bytes.baseAddress.map { $0 + entry.offset }, bytes.count - entry.offset)
    }
    if count >= 0 { return .success(count) }
    guard errno != EAGAIN && errno != EINTR else { return .success(0) }
    return .failure(SystemError.current("write", subject: "standard input"))
  }

  private func fail(_ error: SystemError) {
    let waiting = state.withLock { state in
      state.isClosing = true
      return Self.drain(&state)
    }
    for entry in waiting { entry.continuation.resume(throwing: InputError.failed(error)) }
  }

  private static func drain(_ state: inout State) -> [Entry] {
    defer {
      state.queue = []
      state.queuedBytes = 0
      release(&state)
    }
    return state.queue
  }

  private static func release(_ state: inout State) {
    state.registration?.cancel()
    state.registration?.descriptor.close()
    state.registration = nil
  }
}
