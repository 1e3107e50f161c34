package import NIOHTTP1

/// Headers and limits of one call.
package struct ConnectCallOptions: Sendable {
  package var headers: HTTPHeaders
  /// Sent as `Connect-Timeout-Ms`. The client enforces it too for unary and client-streaming calls; a server stream is
  /// ended by the server.
  package var timeout: Duration?
  /// Longest message accepted from the server, in bytes.
  package var maximumMessageBytes: Int

  package init(
    headers: HTTPHeaders = [:], timeout: Duration? = nil,
    maximumMessageBytes: Int = ConnectClient.defaultMaximumMessageBytes
  ) {
    self.headers = headers
    self.timeout = timeout
    self.maximumMessageBytes = maximumMessageBytes
  }
}

/// Runs `operation`, and cancels it when it takes longer than `limit`.
/// - Throws: `expiry` when the limit has passed.
package func withTimeLimit<Value: Sendable>(
  _ limit: Duration?, throwing expiry: any Error, _ operation: @escaping @Sendable () async throws -> Value
) async throws -> Value {
  guard let limit else { return try await operation() }
  return try await withThrowingTaskGroup(of: Value?.self) { group in
    group.addTask { try await operation() }
    group.addTask {
      try await Task.sleep(for: limit)
      return nil
    }
    defer { group.cancelAll() }
    guard let first = try await group.next(), let value = first else { throw expiry }
    return value
  }
}
