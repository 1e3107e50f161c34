import Connect
import ConnectServer
import HostAPI
import Model
import NIOCore
import Protos
import SwiftProtobuf

extension HostRoutes {
  func registerProcesses(on router: ConnectRouter<BasicConnectRequestContext>) {
    let host = host
    session(.startProcess, on: router, killsOnDisconnect: true) { (request: Host_StartProcessRequest) in
      try await host.startProcess(ProcessRequest(request), in: WireField.id(request.sandboxID, "sandbox_id"))
    }
    session(.attachProcess, on: router, killsOnDisconnect: false) { (request: Host_AttachProcessRequest) in
      try await host.attachProcess(ProcessSelector(request.process), in: WireField.id(request.sandboxID, "sandbox_id"))
    }
    registerSessionCalls(on: router)
    unary(.listProcesses, on: router) { (request: Host_SandboxRequest) in
      let processes = try await host.listProcesses(in: request.id())
      return Host_ListProcessesResponse.with { $0.processes = processes.map { Host_GuestProcess($0) } }
    }
    unary(.signalProcess, on: router) { (request: Host_SignalProcessRequest) in
      try await host.signalProcess(
        ProcessSelector(request.process), signal: request.signal, in: WireField.id(request.sandboxID, "sandbox_id"))
      return Host_Done()
    }
  }

  private func registerSessionCalls(on router: ConnectRouter<BasicConnectRequestContext>) {
    let sessions = sessions
    unary(.sendInput, on: router) { (request: Host_SendInputRequest) in
      try await sessions.session(request.sessionID).session.write(ByteBuffer(bytes: request.data))
      return Host_Done()
    }
    unary(.closeInput, on: router) { (request: Host_SessionRequest) in
      try await sessions.session(request.sessionID).session.closeStandardInput()
      return Host_Done()
    }
    unary(.resizeTerminal, on: router) { (request: Host_ResizeTerminalRequest) in
      try await sessions.session(request.sessionID).session.resize(TerminalSize(request.size))
      return Host_Done()
    }
    unary(.signalSession, on: router) { (request: Host_SignalSessionRequest) in
      try await sessions.session(request.sessionID).session.signal(request.signal)
      return Host_Done()
    }
    unary(.detachSession, on: router) { (request: Host_DetachSessionRequest) in
      // An ended session is already detached.
      try? await sessions.session(request.sessionID).detach(killing: request.kills)
      return Host_Done()
    }
  }

  /// Registers a stream of a process's events. When the caller loses the stream, the session ends as if the caller had
  /// detached.
  private func session<Q: Message>(
    _ method: HostMethod, on router: ConnectRouter<BasicConnectRequestContext>, killsOnDisconnect: Bool,
    _ open: @escaping @Sendable (Q) async throws -> any ProcessSession
  ) {
    router.serverStream(HostMethod.service, method.rawValue) {
      (request: Q, _, writer: ConnectWriter<Host_ProcessEvent>) in
      try await mappingErrors(method) {
        try await withKeepAlives(writer, .keepAlive) {
          let entry = sessions.open(try await open(request))
          defer { sessions.close(entry) }
          do {
            let hasExited = try await forwardEvents(entry, writer)
            await entry.detach(killing: !hasExited && killsOnDisconnect)
          } catch {
            await entry.detach(killing: killsOnDisconnect)
            throw error
          }
        }
      }
    }
  }

  /// Forwards events until the process has ended or the session is detached.
  /// - Returns: whether the process has ended.
  private func forwardEvents(_ entry: OpenSession, _ writer: ConnectWriter<Host_ProcessEvent>) async throws -> Bool {
    try await writer.write(Host_ProcessEvent(startedWith: entry.session.pid, session: entry.name))
    return try await withThrowingTaskGroup(of: Bool.self) { group in
      group.addTask { try await Self.pump(entry.session, writer) }
      group.addTask {
        for await _ in entry.detachments {}
        try Task.checkCancellation()
        return false
      }
      defer { group.cancelAll() }
      return try await group.next() ?? false
    }
  }

  /// Writes each event when the connection accepts it: a caller that reads slowly slows the process down.
  private static func pump(
    _ session: any ProcessSession, _ writer: ConnectWriter<Host_ProcessEvent>
  ) async throws -> Bool {
    for try await event in session.events {
      switch event {
      case .started:
        continue
      case .output(let stream, let bytes):
        for piece in bytes.pieces { try await writer.write(Host_ProcessEvent(stream, piece)) }
      case .exited(let exit):
        try await writer.write(Host_ProcessEvent(exit))
        return true
      }
    }
    try Task.checkCancellation()
    throw MartletError(.agentError, "the connection to the process was lost before it ended")
  }
}
