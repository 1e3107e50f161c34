import Connect
package import ConnectServer
import FoundationEssentials
import HTTPTypes
package import LinuxSystem
import NIOCore
import Protos
import SwiftProtobuf

/// `process.Process` of the E2B contract: starts processes for clients, streams their output, sends them input and
/// signals.
///
/// Source: E2B's envd contract. Our additions: more signals, `process_group`, the number of the ending signal, and
/// `timed_out`.
package struct ProcessService: Sendable {
  package static let name = "process.Process"

  let launcher: ProcessLauncher
  let registry: ProcessRegistry
  let state: GuestState
  let users: UserDatabase
  /// PATH of the agent, the default for processes.
  let agentPath: String?
  let blocking: BlockingPool

  package init(
    launcher: ProcessLauncher, registry: ProcessRegistry, state: GuestState, users: UserDatabase, agentPath: String?,
    blocking: BlockingPool = .shared
  ) {
    self.launcher = launcher
    self.registry = registry
    self.state = state
    self.users = users
    self.agentPath = agentPath
    self.blocking = blocking
  }

  package func register(on connect: ConnectRouter<AgentRequestContext>) {
    connect.serverStream(Self.name, "Start") { request, context, writer in try await start(request, context, writer) }
    connect.serverStream(Self.name, "Connect") { request, context, writer in try await attach(request, context, writer)
    }
    connect.clientStream(Self.name, "StreamInput") { requests, _ in try await streamInput(requests) }
    unary(connect, "List") { (_: Process_ListRequest) in list() }
    unary(connect, "SendInput") { try await sendInput($0) }
    unary(connect, "CloseStdin") { try closeStandardInput($0) }
    unary(connect, "SendSignal") { try sendSignal($0) }
    unary(connect, "Update") { try update($0) }
  }

  private func unary<Q: Message, R: Message>(
    _ connect: ConnectRouter<AgentRequestContext>, _ method: String, _ body: @escaping @Sendable (Q) async throws -> R
  ) {
    connect.unary(Self.name, method) { request, _ in try await ConnectError.mappingErrors { try await body(request) } }
  }
}

// MARK: - Control

extension ProcessService {
  func list() -> Process_ListResponse {
    Process_ListResponse.with { $0.processes = registry.running.map(Process_ProcessInfo.init) }
  }

  func sendInput(_ request: Process_SendInputRequest) async throws -> Process_SendInputResponse {
    try await feed(registry.findRunning(request.process), request.input)
    return Process_SendInputResponse()
  }

  func streamInput(_ requests: ConnectRequests<Process_StreamInputRequest>) async throws -> Process_StreamInputResponse
  {
    try await ConnectError.mappingErrors {
      var target: ManagedProcess?
      for try await request in requests {
        switch request.event {
        case .start(let start): target = try registry.findRunning(start.process)
        case .data(let data):
          guard let target else {
            throw ProcessServiceError.invalidRequest("the first message of the stream must be a start")
          }
          try await feed(target, data.input)
        case .keepalive, nil: break
        }
      }
      return Process_StreamInputResponse()
    }
  }

  func closeStandardInput(_ request: Process_CloseStdinRequest) throws -> Process_CloseStdinResponse {
    let process = try registry.findRunning(request.process)
    guard !process.hasTerminal else {
      throw ConnectError(
        .unknown, "a process with a terminal has no standard input to close; send the end-of-transmission character")
    }
    process.input?.close()
    return Process_CloseStdinResponse()
  }

  func sendSignal(_ request: Process_SendSignalRequest) throws -> Process_SendSignalResponse {
    let number = try SignalTable.number(request.signal)
    let process = try registry.findRunning(request.process)
    guard process.signal(number, group: request.processGroup) else { throw ProcessServiceError.unknownPID(process.pid) }
    return Process_SendSignalResponse()
  }

  func update(_ request: Process_UpdateRequest) throws -> Process_UpdateResponse {
    let process = try registry.findRunning(request.process)
    if request.hasPty {
      try process.resize(WindowSize(columns: request.pty.size.cols, rows: request.pty.size.rows))
    }
    return Process_UpdateResponse()
  }

  private func feed(_ process: ManagedProcess, _ input: Process_ProcessInput) async throws {
    let bytes: Data
    switch (input.input, process.hasTerminal) {
    case (.stdin(let data), false), (.pty(let data), true): bytes = data
    case (.stdin, true): throw ProcessServiceError.inputNeedsTerminal
    case (.pty, false): throw ProcessServiceError.inputNeedsStandardInput
    case (nil, _): throw ProcessServiceError.invalidRequest("the input is empty: set stdin or pty")
    }
    guard let writer = process.input else { throw process.isOver ? ProcessServiceError.over : .noStandardInput }
    do {
      try await writer.write(bytes)
    } catch let error as InputError {
      throw ProcessServiceError(error)
    }
  }
}

extension ProcessServiceError {
  init(_ error: InputError) {
    switch error {
    case .closed: self = .inputClosed
    case .overflow: self = .inputOverflow
    case .failed: self = .inputClosed
    }
  }
}

extension ConnectError {
  /// Runs a handler and maps its `ProcessServiceError`s to Connect codes.
  static func mappingErrors<Result>(_ body: () async throws -> Result) async throws -> Result {
    do {
      return try await body()
    } catch let error as ProcessServiceError {
      throw ConnectError(error)
    }
  }
}
