package import Foundation
package import HostAPI
import Images
import LinuxSystem
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
    for controller in allControllers {
      if let report = await controller.listedReport { reports.append(report) }
    }
    return reports.sorted { $0.id < $1.id }
  }

  package func sandbox(_ id: SandboxID) async throws -> HostSandbox {
    try await controller(id).report
  }

  package func pingSandbox(_ id: SandboxID) async throws {
    let controller = try controller(id)
    _ = try await controller.runningGuest()
    controller.activity.touch()
  }

  package func setTimeout(_ seconds: Int, of id: SandboxID) async throws {
    try await controller(id).setTimeout(seconds)
  }

  package func pauseSandbox(_ id: SandboxID) async throws -> HostSandbox {
    try await controller(id).pause()
  }

  package func resumeSandbox(_ id: SandboxID, _ options: ResumeOptions) async throws -> HostSandbox {
    let controller = try controller(id)
    guard await !controller.isQuarantined else {
      throw MartletError(.invalidState, "sandbox \(id) is in quarantine; an administrator has to adopt it first")
    }
    return try await controller.resume(options)
  }

  package func forkSandbox(
    _ id: SandboxID, into specs: [SandboxSpec]
  ) async throws -> [Result<HostSandbox, MartletError>] {
    let frozen = try await controller(id).checkpoint()
    defer { generations.release(frozen.generation) }
    return await withTaskGroup(of: (Int, Result<HostSandbox, MartletError>).self) { group in
      for (index, spec) in specs.enumerated() { group.addTask { (index, await self.copy(frozen, as: spec)) } }
      var results: [Int: Result<HostSandbox, MartletError>] = [:]
      for await (index, result) in group { results[index] = result }
      return specs.indices.compactMap { results[$0] }
    }
  }

  private func copy(_ frozen: FrozenSandbox, as spec: SandboxSpec) async -> Result<HostSandbox, MartletError> {
    do {
      try spec.validate()
      return .success(try await makeController(for: spec, from: frozen).create())
    } catch {
      return .failure(MartletError.wrapping(error))
    }
  }

  // MARK: - Snapshots

  package func createSnapshot(_ request: SnapshotRequest) async throws -> HostTemplate {
    let controller = try controller(request.sandboxID)
    return try await named.create(request) { try await controller.checkpoint() }
  }

  package func deleteSnapshot(_ name: SafeName, team: TeamID, createdAt: Date?) async throws {
    try await named.delete(name, team: team, createdAt: createdAt)
  }

  package func listTemplates(_ kind: HostTemplate.Kind?) async throws -> [HostTemplate] {
    switch kind {
    case .base: try await baseTemplates()
    case .snapshot: await named.templates()
    case nil: try await baseTemplates() + named.templates()
    }
  }

  private func baseTemplates() async throws -> [HostTemplate] {
    let store = parts.templates
    return try await BlockingPool.shared.run { () throws -> [HostTemplate] in
      try store.templates(team: nil).map {
        HostTemplate(name: $0.name, teamID: $0.team, sizeBytes: $0.allocatedBytes, createdAt: $0.createdAt)
      }
    }
  }

  // MARK: - Work inside a guest

  package func startProcess(_ request: ProcessRequest, in id: SandboxID) async throws -> any ProcessSession {
    try await session(in: id) { try await $0.start(request) }
  }

  package func attachProcess(_ selector: ProcessSelector, in id: SandboxID) async throws -> any ProcessSession {
    try await session(in: id) { try await $0.attach(selector) }
  }

  package func listProcesses(in id: SandboxID) async throws -> [GuestProcess] {
    try await working(in: id) { try await $0.listProcesses() }
  }

  package func signalProcess(_ selector: ProcessSelector, signal: Int32, in id: SandboxID) async throws {
    try await working(in: id) { try await $0.signal(selector, signal: signal) }
  }

  package func writeFile(_ path: String, user: String?, body: ByteStream, in id: SandboxID) async throws {
    try await working(in: id) { try await $0.writeFile(path, user: user, body: body) }
  }

  package func readFile(_ path: String, user: String?, in id: SandboxID) async throws -> FileDownload {
    let controller = try controller(id)
    let work = controller.activity.begin()
    let guest = try await controller.runningGuest()
    let download = try await work.untilInterrupted { try await guest.readFile(path, user: user) }
    work.onInterruption { download.interrupt(.guestEnded) }
    return FileDownload(sizeBytes: download.sizeBytes, body: MeteredBytes(bytes: download.body, work: work))
  }

  package func listDirectory(_ path: String, depth: Int, user: String?, in id: SandboxID) async throws -> [FileEntry] {
    try await working(in: id) { try await $0.listDirectory(path, depth: depth, user: user) }
  }

  package func fileStatus(_ path: String, user: String?, in id: SandboxID) async throws -> FileEntry {
    try await working(in: id) { try await $0.fileStatus(path, user: user) }
  }

  package func makeDirectory(_ path: String, user: String?, in id: SandboxID) async throws -> FileEntry {
    try await working(in: id) { try await $0.makeDirectory(path, user: user) }
  }

  package func renameFile(
    from source: String, to destination: String, user: String?, in id: SandboxID
  ) async throws -> FileEntry {
    try await working(in: id) { try await $0.renameFile(from: source, to: destination, user: user) }
  }

  package func removeFile(_ path: String, user: String?, in id: SandboxID) async throws {
    try await working(in: id) { try await $0.removeFile(path, user: user) }
  }

  /// Reading metrics does not count as work: a dashboard must not keep a sandbox active.
  package func metrics(of id: SandboxID) async throws -> GuestMetrics {
    try await controller(id).runningGuest().metrics()
  }

  /// Calls the guest of a running sandbox; the sandbox is active as long as the call is open.
  private func working<Result: Sendable>(
    in id: SandboxID, _ call: @escaping @Sendable (any Guest) async throws -> Result
  ) async throws -> Result {
    let controller = try controller(id)
    let work = controller.activity.begin()
    defer { work.end() }
    let guest = try await controller.runningGuest()
    return try await work.untilInterrupted { try await call(guest) }
  }

  private func session(
    in id: SandboxID, _ open: @escaping @Sendable (any Guest) async throws -> any ProcessSession
  ) async throws -> any ProcessSession {
    let controller = try controller(id)
    let work = controller.activity.begin()
    do {
      let guest = try await controller.runningGuest()
      let session = try await work.untilInterrupted { try await open(guest) }
      // A task, because the interrupting code does not wait.
      work.onInterruption { Task { await session.detach(killing: false) } }
      return MeteredSession(session: session, work: work)
    } catch {
      work.end()
      throw error
    }
  }
}
