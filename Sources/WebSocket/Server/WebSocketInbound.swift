import Concurrency

/// The connection ended without a close handshake.
package struct WebSocketConnectionLost: Error {
  package init() {}
}

/// Messages from the client, in order. May be iterated by one task at a time.
///
/// Ends after the client's close frame; throws `WebSocketConnectionLost` or `WebSocketProtocolError`. If the consumer
/// does not read, TCP stops the client once `capacity` messages wait. A cancelled consumer loses no message.
package struct WebSocketInbound: AsyncSequence, Sendable {
  package typealias Element = WebSocketMessage

  let queue: WebSocketMessageQueue

  package struct AsyncIterator: AsyncIteratorProtocol {
    let queue: WebSocketMessageQueue

    package mutating func next() async throws -> WebSocketMessage? {
      try await queue.next()
    }
  }

  package func makeAsyncIterator() -> AsyncIterator {
    AsyncIterator(queue: queue)
  }
}

/// The queue between the task that reads the connection and the one that handles messages.
final class WebSocketMessageQueue: Sendable {
  /// Messages that may wait. The frame parser bounds each.
  static let capacity = 8

  private enum Ending {
    case finished
    case failed(any Error)
  }

  private struct State {
    var messages: [WebSocketMessage] = []
    var ending: Ending?
    var isInputClosed = false
    var consumer: CheckedContinuation<WebSocketMessage?, any Error>?
    var producer: CheckedContinuation<Bool, Never>?
  }

  private let state = Mutex(State())

  /// Whether the client sends faster than the handler reads.
  var isFull: Bool { state.withLock { $0.messages.count >= Self.capacity } }

  /// Waits while the queue is full.
  /// - Returns: false when the message will not be read.
  func push(_ message: WebSocketMessage) async -> Bool {
    while true {
      if let accepted = offer(message) { return accepted }
      let hasSpace = await withCheckedContinuation { continuation in
        let result = state.withLock { state -> Bool? in
          if state.ending != nil || state.isInputClosed { return false }
          if state.messages.count < Self.capacity { return true }
          state.producer = continuation
          return nil
        }
        if let result { continuation.resume(returning: result) }
      }
      guard hasSpace else { return false }
    }
  }

  func next() async throws -> WebSocketMessage? {
    try await withTaskCancellationHandler {
      try await withCheckedThrowingContinuation { continuation in
        let (result, producer) = state.withLock {
          state -> (Result<WebSocketMessage?, any Error>?, CheckedContinuation<Bool, Never>?) in
          if !state.messages.isEmpty {
            let message = state.messages.removeFirst()
            defer { state.producer = nil }
            return (.success(message), state.producer)
          }
          switch state.ending {
          case .finished: return (.success(nil), nil)
          case .failed(let error): return (.failure(error), nil)
          case nil: break
          }
          if Task.isCancelled { return (.failure(CancellationError()), nil) }
          state.consumer = continuation
          return (nil, nil)
        }
        producer?.resume(returning: true)
        if let result { continuation.resume(with: result) }
      }
    } onCancel: {
      let consumer = state.withLock { state in
        defer { state.consumer = nil }
        return state.consumer
      }
      consumer?.resume(throwing: CancellationError())
    }
  }

  /// No more messages will follow. Waiting ones are still delivered.
  func finish(throwing error: (any Error)? = nil) {
    let (consumer, producer) = state.withLock {
      state -> (CheckedContinuation<WebSocketMessage?, any Error>?, CheckedContinuation<Bool, Never>?) in
      guard state.ending == nil else { return (nil, nil) }
      state.ending = error.map { .failed($0) } ?? .finished
      defer { (state.consumer, state.producer) = (nil, nil) }
      return (state.consumer, state.producer)
    }
    if let error { consumer?.resume(throwing: error) } else { consumer?.resume(returning: nil) }
    producer?.resume(returning: false)
  }

  /// The client sends no more. Data in the connection is still read, but the producer no longer waits for space:
  /// otherwise input that a process does not read would hide a client that has disconnected.
  func inputClosed() {
    let producer = state.withLock { state in
      state.isInputClosed = true
      defer { state.producer = nil }
      return state.producer
    }
    producer?.resume(returning: false)
  }

  private func offer(_ message: WebSocketMessage) -> Bool? {
    let (accepted, consumer) = state.withLock { state -> (Bool?, CheckedContinuation<WebSocketMessage?, any Error>?) in
      if state.ending != nil { return (false, nil) }
      if let consumer = state.consumer {
        state.consumer = nil
        return (true, consumer)
      }
      guard state.messages.count < Self.capacity else { return (nil, nil) }
      state.messages.append(message)
      return (true, nil)
    }
    consumer?.resume(returning: message)
    return accepted
  }
}
