/// A queue between one producer and one consumer that holds at most `capacity` elements.
///
/// The end of the queue is an element too: elements that were queued before `finish` are delivered first.
package final class BoundedQueue<Element: Sendable>: Sendable {
  private struct State {
    var elements: [Element] = []
    var end: Result<Void, any Error>?
    var waitsForSpace = true
    var producer: CheckedContinuation<Void, any Error>?
    var consumer: CheckedContinuation<Element?, any Error>?
  }

  private enum Offer {
    case queued
    case delivered(CheckedContinuation<Element?, any Error>)
    case full
    case refused
  }

  private let capacity: Int
  private let state = Mutex(State())

  package init(capacity: Int) {
    precondition(capacity > 0, "a queue needs space for one element")
    self.capacity = capacity
  }

  package var isFull: Bool { state.withLock { $0.elements.count >= capacity } }

  /// Queues an element. Waits while the queue is full (back-pressure).
  /// - Throws: `CancellationError` when the task was cancelled, or when the element will not be delivered because the
  ///   queue is finished or `stopWaitingForSpace` was called.
  package func send(_ element: Element) async throws {
    while true {
      switch state.withLock({ offer(element, &$0) }) {
      case .queued: return
      case .delivered(let consumer): return consumer.resume(returning: element)
      case .refused: throw CancellationError()
      case .full: try await waitForSpace()
      }
    }
  }

  /// Queues an element without waiting. When the queue is full, the oldest element is dropped.
  package func sendDroppingOldest(_ element: Element) {
    let consumer = state.withLock { state -> CheckedContinuation<Element?, any Error>? in
      if state.elements.count >= capacity, state.end == nil { state.elements.removeFirst() }
      if case .delivered(let consumer) = offer(element, &state) { return consumer }
      return nil
    }
    consumer?.resume(returning: element)
  }

  /// The next element; nil at the end.
  /// - Throws: the error with which the queue was finished, or `CancellationError` when the consumer's task was
  ///   cancelled and no element was queued.
  package func next() async throws -> Element? {
    try await withTaskCancellationHandler {
      try await withCheckedThrowingContinuation { take(into: $0) }
    } onCancel: {
      let consumer = state.withLock { state in
        defer { state.consumer = nil }
        return state.consumer
      }
      consumer?.resume(throwing: CancellationError())
    }
  }

  /// Ends the queue. Queued elements are still delivered; a waiting `send` throws. Only the first call has an effect.
  /// - Returns: whether this was the first call.
  @discardableResult
  package func finish(throwing error: (any Error)? = nil) -> Bool {
    let end: Result<Void, any Error> = error.map { .failure($0) } ?? .success(())
    let (isFirst, producer, consumer) = state.withLock { state in
      guard state.end == nil else {
        return (false, nil as CheckedContinuation<Void, any Error>?, nil as CheckedContinuation<Element?, any Error>?)
      }
      state.end = end
      defer {
        state.producer = nil
        state.consumer = nil
      }
      return (true, state.producer, state.consumer)
    }
    producer?.resume(throwing: CancellationError())
    consumer?.resume(with: end.map { nil })
    return isFirst
  }

  /// From now on `send` throws instead of waiting for space. Elements that fit are still queued.
  package func stopWaitingForSpace() {
    let producer = state.withLock { state in
      state.waitsForSpace = false
      defer { state.producer = nil }
      return state.producer
    }
    producer?.resume(throwing: CancellationError())
  }

  private func offer(_ element: Element, _ state: inout State) -> Offer {
    guard state.end == nil else { return .refused }
    if let consumer = state.consumer {
      state.consumer = nil
      return .delivered(consumer)
    }
    guard state.elements.count < capacity else { return state.waitsForSpace ? .full : .refused }
    state.elements.append(element)
    return .queued
  }

  private func waitForSpace() async throws {
    try await withTaskCancellationHandler {
      try await withCheckedThrowingContinuation { continuation in
        let result = state.withLock { state -> Result<Void, any Error>? in
          guard state.end == nil, state.waitsForSpace, !Task.isCancelled else { return .failure(CancellationError()) }
          guard state.elements.count >= capacity else { return .success(()) }
          precondition(state.producer == nil, "a queue has one producer")
          state.producer = continuation
          return nil
        }
        if let result { continuation.resume(with: result) }
      }
    } onCancel: {
      let producer = state.withLock { state in
        defer { state.producer = nil }
        return state.producer
      }
      producer?.resume(throwing: CancellationError())
    }
  }

  private func take(into continuation: CheckedContinuation<Element?, any Error>) {
    let (result, producer) = state.withLock {
      state -> (Result<Element?, any Error>?, CheckedContinuation<Void, any Error>?) in
      precondition(state.consumer == nil, "a queue has one consumer")
      if !state.elements.isEmpty {
        let element = state.elements.removeFirst()
        defer { state.producer = nil }
        return (.success(element), state.producer)
      }
      if let end = state.end { return (end.map { nil }, nil) }
      if Task.isCancelled { return (.failure(CancellationError()), nil) }
      state.consumer = continuation
      return (nil, nil)
    }
    producer?.resume()
    if let result { continuation.resume(with: result) }
  }
}
