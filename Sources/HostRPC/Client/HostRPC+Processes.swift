import Concurrency
import Connect
import ConnectClient
package import HostAPI
package import Model
import Protos
import SwiftProtobuf

extension HostRPC {
  package func startProcess(_ request: ProcessRequest, in id: SandboxID) async throws -> any ProcessSession {
    try await open(.startProcess, Host_StartProcessRequest(request, in: id))
  }

  package func attachProcess(_ selector: ProcessSelector, in id: SandboxID) async throws -> any ProcessSession {
    let request = Host_AttachProcessRequest.with {
      $0.sandboxID = id.wire
      $0.process = Host_ProcessSelector(selector)
    }
    return try await open(.attachProcess, request)
  }

  package func listProcesses(in id: SandboxID) async throws -> [GuestProcess] {
    let response: Host_ListProcessesResponse = try await unary(.listProcesses, Host_SandboxRequest(id))
    return response.processes.map { GuestProcess($0) }
  }

  package func signalProcess(_ selector: ProcessSelector, signal: Int32, in id: SandboxID) async throws {
    let request = Host_SignalProcessRequest.with {
      $0.sandboxID = id.wire
      $0.process = Host_ProcessSelector(selector)
      $0.signal = signal
    }
    let _: Host_Done = try await unary(.signalProcess, request)
  }

  /// Opens a stream and waits for its first event. If the caller is cancelled meanwhile, the stream is closed, which
  /// ends a process that was started.
  private func open(_ method: HostMethod, _ request: some Message) async throws -> any ProcessSession {
    try await hostCall {
      let timeoutError = MartletError(
        .hostUnavailable, "the sandbox's host did not start the process in time; try again")
      let (first, events) = try await withDeadline(limits.opening, throwing: timeoutError) {
        let responses: ConnectResponses<Host_ProcessEvent> = try await connect.serverStream(
          HostMethod.service, method.rawValue, request,
          options: ConnectCallOptions(maximumMessageBytes: limits.eventBytes))
        let events = processEvents(responses)
        return (try await events.makeAsyncIterator().next(), events)
      }
      guard case .started(let started)? = first?.event else { throw MalformedHostMessage("started") }
      return RemoteProcessSession(pid: started.pid, name: started.sessionID, events: events, host: self)
    }
  }

  /// Reads a process stream. `exited` is the last event; the rest of the stream is read only so that the connection can
  /// be reused.
  private func processEvents(_ responses: ConnectResponses<Host_ProcessEvent>) -> BoundedStream<Host_ProcessEvent> {
    BoundedStream(
      capacity: limits.waitingEvents, idleLimit: limits.streamIdle, translating: { HostErrors.martletError($0) }
    ) { queue, watch in
      var iterator = responses.makeAsyncIterator()
      while let event = try await watch.waiting(for: { try await iterator.next() }) {
        if case .keepalive? = event.event { continue }
        try await queue.send(event)
        guard case .exited? = event.event else { continue }
        queue.finish()
        _ = try? await watch.waiting(for: { try await iterator.next() })
        return
      }
      throw ConnectError(.unavailable, "the process stream ended without an end event")
    }
  }
}
