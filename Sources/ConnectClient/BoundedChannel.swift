import Concurrency

/// Hands elements from one producer to one consumer; the producer waits while `capacity` elements are not taken.
package final class BoundedChannel<Element: Sendable>: Sendable {
  private let capacity: Int
  private let state = Mutex(State())

  package init(capacity: Int) {
    precondition(capacity > 0, "a channel needs room for one element")
    self.capacity = capacity
  }

  private struct State {
    var waiting: [Element] = []
    /// Set once; elements that wait already are still delivered.
    var end: Result<Void, any Error>?
    var producer: CheckedContinuation<Void, any Error>?
    var consumer: CheckedContinuation<Element?, any Error>?
  }

  /// Returns when there is room for the next element.
  /// - Throws: `CancellationError` when the task was cancelled or nobody takes elements any more.
  package func send(_ element: Element) async throws {
    let consumer = try state.withLock { state -> CheckedContinuation<Element?, any Error>? in
      guard state.end == nil else { throw CancellationError() }
      if let consumer = state.consumer {
        state.consumer = nil
        return consumer
      }
      state.waiting.append(element)
      return nil
    }
    if let consumer { return consumer.resume(returning: element) }
    try await waitForRoom()
  }

  /// The next element; nil at the end.
  /// - Throws: the error the stream ended with, or `CancellationError` when the consumer's task was cancelled.
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

  /// Ends the stream; only the first end counts.
  /// - Returns: whether this was the first.
  @discardableResult
  package func finish(_ error: (any Error)?) -> Bool {
    let end: Result<Void, any Error> = error.map { .failure($0) } ?? .success(())
    let (isFirst, producer, consumer) = state.withLock { state in
      let isFirst = state.end == nil
      if isFirst { state.end = end }
      defer {
        state.producer = nil
        state.consumer = nil
      }
      return (isFirst, state.producer, state.consumer)
    }
    producer?.resume(throwing: CancellationError())
    consumer?.resume(with: end.map { nil })
    return isFirst
  }

  private func waitForRoom() async throws {
    try await withTaskCancellationHandler {
      try await withCheckedThrowingContinuation { continuation in
        let result = state.withLock { state -> Result<Void, any Error>? in
          guard state.end == nil, !Task.isCancelled else { return .failure(CancellationError()) }
          guard state.waiting.count >= capacity else { return .success(()) }
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
      precondition(state.consumer == nil, "a channel has one consumer")
      if !state.waiting.isEmpty {
        let element = state.waiting.removeFirst()
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
