package import Foundation
package import HostAPI
package import Model

extension SimulatedHost {
  package func forkSandbox(
    _ id: SandboxID, into specs: [SandboxSpec]
  ) async throws -> [Result<HostSandbox, MartletError>] {
    await begin(id)
    defer { end(id) }
    try await gate(.fork)
    let content = try savedFiles(id)
    let shape = sandboxes[id].map {
      SandboxShape(vcpus: $0.vcpus, memoryMiB: $0.memoryMiB, diskSizeMiB: $0.diskSizeMiB)
    }
    var results: [Result<HostSandbox, MartletError>] = []
    for (index, spec) in specs.enumerated() {
      await yield()
      if let fault = forkFaults[index] {
        results.append(.failure(fault))
      } else {
        results.append(.success(start(spec, shape, content, ["restore", "guest"])))
      }
    }
    sandboxes[id]?.timings = Self.timings(["freeze", "save_memory"])
    try throwIfResponseIsLost(.fork)
    return results
  }

  package func createSnapshot(_ request: SnapshotRequest) async throws -> HostTemplate {
    let id = request.sandboxID
    await begin(id)
    defer { end(id) }
    try await gate(.snapshot)
    let key = SnapshotKey(request.name, request.teamID)
    guard snapshots[key] == nil || request.overwrites else {
      throw MartletError(.alreadyExists, "a snapshot named \(request.name) exists")
    }
    let content = try savedFiles(id)
    guard let source = sandboxes[id] else { throw MartletError.sandboxNotFound(id) }
    let template = HostTemplate(
      name: request.name, teamID: request.teamID, kind: .snapshot,
      shape: SandboxShape(vcpus: source.vcpus, memoryMiB: source.memoryMiB, diskSizeMiB: source.diskSizeMiB),
      sizeBytes: 1 << 22,
      createdAt: Date(timeIntervalSince1970: 1_700_000_100 + Double(snapshotCount)))
    snapshotCount += 1
    snapshots[key] = (template, content)
    sandboxes[id]?.timings = Self.timings(["freeze", "save_memory", "publish"])
    try throwIfResponseIsLost(.snapshot)
    return template
  }

  package func deleteSnapshot(_ name: SafeName, team: TeamID, createdAt: Date?) async throws {
    try await gate(.deleteSnapshot)
    let key = SnapshotKey(name, team)
    if let createdAt, let found = snapshots[key], !SnapshotMoment.isSame(found.template.createdAt, createdAt) { return }
    snapshots[key] = nil
  }

  package func listTemplates(_ kind: HostTemplate.Kind?) async throws -> [HostTemplate] {
    try await gate(.templates)
    return (templates + snapshots.values.map(\.template)).filter { kind == nil || $0.kind == kind }
  }

  /// Adds or removes a snapshot without a request; nil removes it.
  package func setSnapshot(
    _ name: SafeName, team: TeamID, files: Files?, createdAt: Date = Date(timeIntervalSince1970: 1_700_000_200)
  ) {
    let template = HostTemplate(
      name: name, teamID: team, kind: .snapshot, shape: SandboxShape(vcpus: 2, memoryMiB: 256, diskSizeMiB: 1024),
      sizeBytes: 1 << 21,
      createdAt: createdAt)
    snapshots[SnapshotKey(name, team)] = files.map { (template, $0) }
  }

  package var snapshotNames: [String] { snapshots.keys.map(\.name.value).sorted() }

  /// The files of a running or paused sandbox, which stand for its memory and disk.
  private func savedFiles(_ id: SandboxID) throws -> Files {
    guard let sandbox = sandboxes[id] else { throw MartletError.sandboxNotFound(id) }
    switch sandbox.status {
    case .running: return files[id] ?? [:]
    case .paused: return generations[id]?.last ?? [:]
    default: throw MartletError.invalidState(id, is: sandbox.status, needs: "running or paused")
    }
  }
}
