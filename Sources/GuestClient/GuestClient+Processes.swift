import Connect
import ConnectClient
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
        let first = try await withTimeLimit(limits.firstEvent, throwing: Self.noFirstEvent) {
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
