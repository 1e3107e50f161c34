import Concurrency
package import NIOCore
import ServiceLifecycle

/// Notifies observers that the client of a connection has disconnected.
package final class ConnectionWatch: Sendable {
  private struct State {
    var isClosed = false
    var observers: [Int: @Sendable () -> Void] = [:]
    var next = 0
  }

  private let state = Mutex(State())

  /// The watch of a connection of `UpgradableHTTP1Channel`; nil for other channels.
  package static func of(_ channel: any Channel) async -> ConnectionWatch? {
    try? await channel.eventLoop.submit {
      try channel.pipeline.syncOperations.handler(type: ConnectionHandler.self).watch
    }.get()
  }

  /// How long requests may continue after the server was told to stop.
  package static let shutdownGrace: Duration = .seconds(5)

  /// Runs `work`. It is cancelled when the client disconnects, and `shutdownGrace` after the server was told to stop.
  package func cancellingWhenClosed<Value: Sendable>(
    _ work: @escaping @Sendable () async throws -> Value
  ) async throws -> Value {
    // Unstructured, so that the observer on the event loop can cancel it.
    let task = Task { try await work() }
    let number = addObserver { task.cancel() }
    defer { removeObserver(number) }
    return try await withTaskCancellationHandler {
      try await withGracefulShutdownHandler {
        try await task.value
      } onGracefulShutdown: {
        Task {
          try? await Task.sleep(for: Self.shutdownGrace)
          task.cancel()
        }
      }
    } onCancel: {
      task.cancel()
    }
  }

  /// - Parameter action: called once; at once if the client has already disconnected.
  func addObserver(_ action: @escaping @Sendable () -> Void) -> Int {
    let (number, isClosed) = state.withLock { state in
      state.next += 1
      if !state.isClosed { state.observers[state.next] = action }
      return (state.next, state.isClosed)
    }
    if isClosed { action() }
    return number
  }

  func removeObserver(_ number: Int) {
    state.withLock { _ = $0.observers.removeValue(forKey: number) }
  }

  func close() {
    let observers = state.withLock { state in
      state.isClosed = true
      defer { state.observers = [:] }
      return state.observers
    }
    for observer in observers.values { observer() }
  }
}
