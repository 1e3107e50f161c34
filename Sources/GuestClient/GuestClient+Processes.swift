import Concurrency
import Connect
import ConnectClient
import Foundation
package import HostAPI
import Model
import NIOCore
import NIOHTTP1
import Protos
import SwiftProtobuf

extension GuestClient {
  static let processService = "process.Process"

  /// Starts a process. The session's first event is `started`. If the calling task is cancelled meanwhile, the started
  /// process is killed.
  package func start(_ request: ProcessRequest) async throws -> any ProcessSession {
    let message = Process_StartRequest(request)
    var options = streamOptions(user: request.user)
    if let timeout = request.timeout, timeout > .zero { options.timeout = timeout }
    let session = try await opening { [options] in
      let responses: ConnectResponses<Process_StartResponse> = try await connect.serverStream(
        Self.processService, "Start", message, options: options)
      return processEvents(responses, endsByTimeout: options.timeout != nil) { $0.event }
    } session: { pid, events in
      GuestProcessSession(
        pid: pid, input: request.terminal == nil ? .standardInput : .terminal, events: events, guest: self)
    }
    guard !Task.isCancelled else {
      await session.detach(killing: true)
      throw MartletError(.canceled, "the request was canceled; the process it started was killed")
    }
    return session
  }

  /// Attaches to a running process; earlier output is not replayed.
  package func attach(_ selector: ProcessSelector) async throws -> any ProcessSession {
    let message = Process_ConnectRequest.with { $0.process = Process_ProcessSelector(selector) }
    let options = streamOptions()
    let session = try await opening {
      let responses: ConnectResponses<Process_ConnectResponse> = try await connect.serverStream(
        Self.processService, "Connect", message, options: options)
      return processEvents(responses, endsByTimeout: false) { $0.event }
    } session: { pid, events in
      GuestProcessSession(pid: pid, input: .unknown, events: events, guest: self)
    }
    guard !Task.isCancelled else {
      await session.detach(killing: false)
      throw MartletError(.canceled, "the request was canceled")
    }
    return session
  }

  package func listProcesses() async throws -> [GuestProcess] {
    let response: Process_ListResponse = try await process("List", Process_ListRequest())
    return response.processes.map { GuestProcess($0) }
  }

  /// Sends a signal to the process and its process group.
  package func signal(_ selector: ProcessSelector, signal: Int32) async throws {
    guard (1...64).contains(signal) else {
      throw MartletError(.invalidRequest, "signal must be between 1 and 64")
    }
    let request = Process_SendSignalRequest.with {
      $0.process = Process_ProcessSelector(selector)
      $0.signal = Process_Signal(rawValue: Int(signal)) ?? .UNRECOGNIZED(Int(signal))
      $0.processGroup = true
    }
    let _: Process_SendSignalResponse = try await process("SendSignal", request)
  }

  func process<Q: Message, R: Message>(_ method: String, _ request: Q) async throws -> R {
    try await guestCall(.process) {
      try await connect.unary(Self.processService, method, request, options: options())
    }
  }

  private func streamOptions(user: String? = nil) -> ConnectCallOptions {
    var options = options(user: user)
    options.timeout = nil
    options.maximumMessageBytes = limits.eventBytes
    options.headers.add(name: "keepalive-ping-interval", value: "\(limits.keepAliveSeconds)")
    return options
  }

  /// Opens a stream and waits for its first event.
  ///
  /// Runs in an unstructured task that the caller's cancellation does not reach: otherwise a process whose start was
  /// cancelled half-way would live on without a session. Bounded by the limits for a stream's head and first event.
  private func opening(
    _ open: @escaping @Sendable () async throws -> BoundedStream<ProcessEvent>,
    session: @escaping @Sendable (UInt32, BoundedStream<ProcessEvent>) -> GuestProcessSession
  ) async throws -> GuestProcessSession {
    try await guestCall(.process) {
      try await Task {
        let events = try await open()
        let first = try await withDeadline(limits.firstEvent, throwing: Self.noFirstEvent) {
          try await events.makeAsyncIterator().next()
        }
        guard case .started(let pid)? = first else { throw Self.noFirstEvent }
        return session(pid, events)
      }.value
    }
  }

  private static var noFirstEvent: MartletError {
    GuestErrors.unreachable(cause: GuestFailure(message: "a process stream did not begin with its start event"))
  }
}

extension GuestClient {
  /// Reads a process stream. `exited` is the last event. The end of the HTTP response after it is also read, so that
  /// the connection can be reused; the consumer does not wait for that.
  /// - Parameter endsByTimeout: whether the guest kills the process at a deadline and may end the stream without an end
  ///   event.
  func processEvents<R: Message>(
    _ responses: ConnectResponses<R>, endsByTimeout: Bool, _ event: @escaping @Sendable (R) -> Process_ProcessEvent
  ) -> BoundedStream<ProcessEvent> {
    BoundedStream(.process, capacity: limits.waitingEvents, idleLimit: limits.streamIdle) { queue, watch in
      do {
        var iterator = responses.makeAsyncIterator()
        while let event = try await watch.waiting(for: { try await iterator.next() }).map(event) {
          guard let event = try ProcessEvent(event) else { continue }
          try await queue.send(event)
          guard case .exited = event else { continue }
          queue.finish()
          // If the response does not end here, it is dropped together with its connection.
          _ = try? await watch.waiting(for: { try await iterator.next() })
          return
        }
        throw ConnectError(.unavailable, "the process stream ended without an end event")
      } catch {
        guard endsByTimeout, (error as? ConnectError)?.code == .deadlineExceeded else { throw error }
        try await queue.send(.exited(.timedOut))
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
