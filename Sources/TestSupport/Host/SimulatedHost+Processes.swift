package import HostAPI
package import Model

extension SimulatedHost {
  package func process(_ selector: ProcessSelector, in id: SandboxID) -> SimulatedProcess? {
    processes[id, default: []].last { process in
      switch selector {
      case .pid(let pid): process.pid == pid
      case .tag(let tag): process.request.tag == tag
      }
    }
  }

  package func startProcess(_ request: ProcessRequest, in id: SandboxID) async throws -> any ProcessSession {
    try await gate(.start)
    _ = try running(id)
    nextPID += 1
    let process = SimulatedProcess(pid: nextPID, request: request)
    processes[id, default: []].append(process)
    let session = SimulatedSession(process)
    process.begin()
    return session
  }

  package func attachProcess(_ selector: ProcessSelector, in id: SandboxID) async throws -> any ProcessSession {
    _ = try running(id)
    return SimulatedSession(try alive(selector, in: id))
  }

  package func listProcesses(in id: SandboxID) async throws -> [GuestProcess] {
    _ = try running(id)
    return processes[id, default: []].filter(\.isAlive).map {
      GuestProcess(pid: $0.pid, tag: $0.request.tag, command: $0.request.command, arguments: $0.request.arguments)
    }
  }

  package func signalProcess(_ selector: ProcessSelector, signal: Int32, in id: SandboxID) async throws {
    _ = try running(id)
    try alive(selector, in: id).receive(signal: signal)
  }

  private func alive(_ selector: ProcessSelector, in id: SandboxID) throws -> SimulatedProcess {
    guard let process = process(selector, in: id), process.isAlive else {
      throw MartletError(.notFound, "there is no such process")
    }
    return process
  }
}
