import Foundation
package import Model
package import NIOCore
import NIOHTTP1
import WebSocket

/// A running command, connected by one WebSocket: the caller receives events and sends input, terminal sizes and
/// signals.
///
/// The command is killed when the connection closes.
package struct ExecStream: Sendable {
  /// The events `started`, `output` and `exited`. Throws if the connection breaks before `exited`, so that a broken
  /// connection never looks like success. Can be iterated once; a slow consumer slows the command down.
  package struct Events: AsyncSequence, Sendable {
    let socket: ClientWebSocket
    let endpoint: Endpoint

    package struct AsyncIterator: AsyncIteratorProtocol {
      private var base: ClientWebSocket.Inbound.AsyncIterator
      private var hasExited = false
      private let endpoint: Endpoint

      init(_ base: ClientWebSocket.Inbound.AsyncIterator, endpoint: Endpoint) {
        self.base = base
        self.endpoint = endpoint
      }

      package mutating func next() async throws -> ExecEvent? {
        guard !hasExited else { return nil }
        do {
          while let event = try await base.next() {
            guard let decoded = try Self.decode(event) else { continue }
            if case .exited = decoded { hasExited = true }
            return decoded
          }
        } catch {
          throw APIError.wrapping(error, at: endpoint)
        }
        try Task.checkCancellation()
        throw APIError.connectionLost
      }

      private static func decode(_ event: ClientWebSocket.Event) throws -> ExecEvent? {
        switch event {
        case .message(.binary(let frame)): return try ExecCodec.decode(binary: frame)
        case .message(.text(let text)): return try ExecCodec.decode(text: text)
        case .closed(let code, let reason):
          let why = reason.isEmpty ? code.map { "code \($0)" } ?? "no reason given" : reason
          throw APIError(.connectionLost, "the server closed the connection before the command exited (\(why))")
        }
      }
    }

    package func makeAsyncIterator() -> AsyncIterator {
      AsyncIterator(socket.inbound.makeAsyncIterator(), endpoint: endpoint)
    }
  }

  let socket: ClientWebSocket
  let endpoint: Endpoint

  package var events: Events { Events(socket: socket, endpoint: endpoint) }

  /// Writes to standard input or to the terminal; returns when the connection can accept more.
  package func write(_ bytes: ByteBuffer) async throws {
    var bytes = bytes
    while let chunk = bytes.readSlice(length: min(bytes.readableBytes, APIClient.Bounds.chunkBytes)),
      chunk.readableBytes > 0
    {
      try await send(.binary(chunk))
    }
  }

  package func closeInput() async throws {
    try await control(.init(type: "stdin", eof: true))
  }

  package func resize(cols: Int, rows: Int) async throws {
    try await control(.init(type: "resize", cols: cols, rows: rows))
  }

  /// - Parameter signal: a name such as `SIGINT`.
  package func signal(_ signal: String) async throws {
    try await control(.init(type: "signal", signal: signal))
  }

  /// Kills the command.
  package func stop() async throws {
    try await control(.init(type: "stop"))
  }

  private func control(_ frame: ExecCodec.ControlFrame) async throws {
    try await send(.text(try ExecCodec.encode(frame)))
  }

  private func send(_ message: ClientWebSocket.Message) async throws {
    do {
      try await socket.send(message)
    } catch {
      throw APIError.wrapping(error, at: endpoint)
    }
  }
}

extension APIClient {
  /// Starts a command in a sandbox and runs `body` with its stream. The command is killed when `body` returns.
  package func withExec<Result: Sendable>(
    _ start: ExecStart, in id: SandboxID, _ body: (ExecStream) async throws -> Result
  ) async throws -> Result {
    let target = ClientWebSocket.Target(
      host: endpoint.host, port: endpoint.port, uri: "\(endpoint.basePath)\(Self.path(id))/exec/stream",
      headers: headers)
    var configuration = ClientWebSocket.Configuration()
    configuration.connectTimeout = Bounds.connectTimeout
    // The largest payload and its leading byte.
    configuration.maximumFrameBytes = Limits.webSocketFrameBytes + 1
    do {
      return try await ClientWebSocket.withConnection(to: target, configuration: configuration) { socket in
        let stream = ExecStream(socket: socket, endpoint: endpoint)
        let first = try ExecCodec.encode(start)
        // If the server has closed the connection already, the events contain the reason.
        try? await socket.send(.text(first))
        return try await body(stream)
      }
    } catch {
      throw APIError.wrapping(error, at: endpoint)
    }
  }
}
