import Connect
import ConnectClient
import Foundation
import HostAPI
import Model
import NIOCore
import Protos
import SwiftProtobuf

extension GuestClient {
  /// Reads a process stream. `exited` is the last event. The end of the HTTP response after it is also read, so that
  /// the connection can be reused; the consumer does not wait for that.
  /// - Parameter endsByTimeout: whether the guest kills the process at a deadline and may end the stream without an end
  ///   event.
  func processEvents<R: Message>(
    _ responses: ConnectResponses<R>, endsByTimeout: Bool, _ event: @escaping @Sendable (R) -> Process_ProcessEvent
  ) -> BoundedStream<ProcessEvent> {
    BoundedStream(.process, capacity: limits.waitingEvents, idleLimit: limits.streamIdle) { channel, watch in
      do {
        var iterator = responses.makeAsyncIterator()
        while let event = try await watch.waiting(for: { try await iterator.next() }).map(event) {
          guard let event = try ProcessEvent(event) else { continue }
          try await channel.send(event)
          guard case .exited = event else { continue }
          channel.finish(nil)
          // If the response does not end here, it is dropped together with its connection.
          _ = try? await watch.waiting(for: { try await iterator.next() })
          return
        }
        throw ConnectError(.unavailable, "the process stream ended without an end event")
      } catch {
        guard endsByTimeout, (error as? ConnectError)?.code == .deadlineExceeded else { throw error }
        try await channel.send(.exited(.timedOut))
      }
    }
  }
}

extension ProcessExit {
  /// The guest killed the process with SIGKILL (9) because its time-out had passed.
  static var timedOut: ProcessExit { ProcessExit(exitCode: 128 + 9, signal: 9, isTimeout: true) }

  init(_ end: Process_ProcessEvent.EndEvent) {
    let signal: Int32? = end.signal > 0 ? end.signal : nil
    self.init(exitCode: signal.map { 128 &+ $0 } ?? end.exitCode, signal: signal, isTimeout: end.timedOut)
  }
}

extension ProcessEvent {
  /// - Returns: nil for events that the host ignores: keep-alives, empty output, events of later versions.
  init?(_ event: Process_ProcessEvent) throws {
    switch event.event {
    case .start(let start): self = .started(pid: start.pid)
    case .data(let data):
      guard let output = ProcessEvent(data) else { return nil }
      self = output
    case .end(let end): self = .exited(ProcessExit(end))
    case .keepalive, nil: return nil
    }
  }

  private init?(_ data: Process_ProcessEvent.DataEvent) {
    switch data.output {
    case .stdout(let bytes): self = .output(.standardOutput, ByteBuffer(bytes: bytes))
    case .stderr(let bytes): self = .output(.standardError, ByteBuffer(bytes: bytes))
    case .pty(let bytes): self = .output(.terminal, ByteBuffer(bytes: bytes))
    case nil: return nil
    }
  }
}

extension Process_ProcessSelector {
  init(_ selector: HostAPI.ProcessSelector) {
    self.init()
    switch selector {
    case .pid(let pid): self.pid = pid
    case .tag(let tag): self.tag = tag
    }
  }
}

extension Process_PTY {
  init(_ size: TerminalSize) {
    self.init()
    self.size.cols = UInt32(clamping: size.columns)
    self.size.rows = UInt32(clamping: size.rows)
  }
}

extension Process_StartRequest {
  init(_ request: ProcessRequest) {
    self.init()
    process.cmd = request.command
    process.args = request.arguments
    process.envs = request.environment
    if let directory = request.workingDirectory { process.cwd = directory }
    if let terminal = request.terminal { pty = Process_PTY(terminal) }
    if let tag = request.tag { self.tag = tag }
    stdin = request.hasStandardInput
  }
}

extension GuestProcess {
  init(_ info: Process_ProcessInfo) {
    self.init(
      pid: info.pid, tag: info.hasTag ? info.tag : nil, command: info.config.cmd, arguments: info.config.args,
      workingDirectory: info.config.hasCwd ? info.config.cwd : nil, environment: info.config.envs)
  }
}
