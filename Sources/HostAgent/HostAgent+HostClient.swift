package import HostInterface
import Images
package import Model

extension HostAgent: HostClient {
  package var hostID: HostID { configuration.hostID }

  package func createSandbox(_ spec: SandboxSpec) async throws -> HostSandbox {
    try spec.validate()
    return try await makeController(for: spec).create()
  }

  package func destroySandbox(_ id: SandboxID) async throws {
    try await existingController(id)?.destroy()
  }

  package func listSandboxes() async throws -> [HostSandbox] {
    var reports: [HostSandbox] = []
    for controller in allControllers { reports.append(await controller.report) }
    return reports.sorted { $0.id < $1.id }
  }

  package func sandbox(_ id: SandboxID) async throws -> HostSandbox {
    try await controller(id).report
  }

  package func pingSandbox(_ id: SandboxID) async throws {
    _ = try await guest(id)
  }

  package func listTemplates() async throws -> [HostTemplate] {
    try parts.templates.templates(team: nil).map {
      HostTemplate(name: $0.name, teamID: $0.team, sizeBytes: $0.allocatedBytes, createdAt: $0.createdAt)
    }
  }

  // MARK: - Snapshots

  package func pauseSandbox(_ id: SandboxID) async throws -> HostSandbox { throw Self.noSnapshots }
  package func resumeSandbox(_ id: SandboxID, _ options: ResumeOptions) async throws -> HostSandbox { throw Self.noSnapshots }
  package func setTimeout(_ seconds: Int, of id: SandboxID) async throws { throw Self.noSnapshots }
  package func forkSandbox(_ id: SandboxID, into specs: [SandboxSpec]) async throws -> [Result<HostSandbox, MartletError>] {
    throw Self.noSnapshots
  }
  package func createSnapshot(_ request: SnapshotRequest) async throws -> HostTemplate { throw Self.noSnapshots }
  package func deleteSnapshot(_ name: SafeName, team: TeamID) async throws { throw Self.noSnapshots }
  private static var noSnapshots: MartletError { MartletError(.unimplemented, "this host takes no snapshots") }

  // MARK: - Work inside a guest

  package func startProcess(_ request: ProcessRequest, in id: SandboxID) async throws -> any ProcessSession {
    try await guest(id).start(request)
  }

  package func attachProcess(_ selector: ProcessSelector, in id: SandboxID) async throws -> any ProcessSession {
    try await guest(id).attach(selector)
  }

  package func listProcesses(in id: SandboxID) async throws -> [GuestProcess] {
    try await guest(id).listProcesses()
  }

  package func signalProcess(_ selector: ProcessSelector, signal: Int32, in id: SandboxID) async throws {
    try await guest(id).signal(selector, signal: signal)
  }

  package func writeFile(_ path: String, user: String?, body: ByteStream, in id: SandboxID) async throws {
    try await guest(id).writeFile(path, user: user, body: body)
  }

  package func readFile(_ path: String, user: String?, in id: SandboxID) async throws -> FileDownload {
    try await guest(id).readFile(path, user: user)
  }

  package func listDirectory(_ path: String, depth: Int, user: String?, in id: SandboxID) async throws -> [FileEntry] {
    try await guest(id).listDirectory(path, depth: depth, user: user)
  }

  package func fileStatus(_ path: String, user: String?, in id: SandboxID) async throws -> FileEntry {
    try await guest(id).fileStatus(path, user: user)
  }

  package func makeDirectory(_ path: String, user: String?, in id: SandboxID) async throws -> FileEntry {
    try await guest(id).makeDirectory(path, user: user)
  }

  package func renameFile(
    from source: String, to destination: String, user: String?, in id: SandboxID
  ) async throws -> FileEntry {
    try await guest(id).renameFile(from: source, to: destination, user: user)
  }

  package func removeFile(_ path: String, user: String?, in id: SandboxID) async throws {
    try await guest(id).removeFile(path, user: user)
  }

  package func metrics(of id: SandboxID) async throws -> GuestMetrics {
    try await guest(id).metrics()
  }

  private func guest(_ id: SandboxID) async throws -> any Guest {
    try await controller(id).activeGuest()
  }
}
