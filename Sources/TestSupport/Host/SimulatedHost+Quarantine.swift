package import Foundation
package import HostAPI
package import Model

extension SimulatedHost {
  package func quarantine() async throws -> HostQuarantine {
    try await gate(.quarantine)
    let machines = quarantinedSandboxes.compactMap { id, time -> QuarantinedItem? in
      guard let state = sandboxes[id] else { return nil }
      let spec = specs[id] ?? SandboxSpec(id: id, teamID: .platform)
      return QuarantinedItem(
        kind: .sandbox(spec: spec, state: state), quarantinedAt: time, createdAt: state.startedAt ?? time,
        sizeBytes: 1 << 20)
    }
    let frozen = quarantinedSnapshots.map { id, snapshot in
      QuarantinedItem(
        kind: .snapshot(id, template: snapshot.template), quarantinedAt: snapshot.quarantinedAt,
        createdAt: snapshot.template.createdAt, sizeBytes: snapshot.template.sizeBytes)
    }
    return HostQuarantine(installation: installation, items: machines + frozen)
  }

  /// A running sandbox is paused at once, unless pauses fail.
  package func quarantineSandbox(_ id: SandboxID) async throws {
    try await gate(.quarantine)
    guard sandboxes[id] != nil else { throw MartletError.sandboxNotFound(id) }
    if sandboxes[id]?.status == .running { _ = try? await pauseSandbox(id) }
    if quarantinedSandboxes[id] == nil { quarantinedSandboxes[id] = Date() }
  }

  package func quarantineSnapshot(_ name: SafeName, team: TeamID, createdAt: Date) async throws {
    try await gate(.quarantine)
    let key = SnapshotKey(name, team)
    guard let found = snapshots[key], SnapshotMoment.isSame(found.template.createdAt, createdAt) else { return }
    snapshots[key] = nil
    quarantinedSnapshots[GenerationID()] = QuarantinedSnapshot(
      template: found.template, files: found.files, quarantinedAt: Date())
  }

  package func releaseSandbox(_ id: SandboxID, to team: TeamID) async throws -> HostSandbox {
    try await gate(.quarantine)
    guard let sandbox = sandboxes[id] else { throw MartletError.sandboxNotFound(id) }
    quarantinedSandboxes[id] = nil
    specs[id]?.teamID = team
    return sandbox
  }

  package func releaseSnapshot(_ id: GenerationID, as name: SafeName, team: TeamID) async throws -> HostTemplate {
    try await gate(.quarantine)
    let key = SnapshotKey(name, team)
    guard var found = quarantinedSnapshots[id] else {
      throw MartletError(.notFound, "snapshot \(id) is not in quarantine")
    }
    guard snapshots[key] == nil else { throw MartletError(.alreadyExists, "a snapshot named \(name) exists") }
    quarantinedSnapshots[id] = nil
    found.template.name = name
    found.template.teamID = team
    snapshots[key] = (found.template, found.files)
    return found.template
  }

  package func removeQuarantinedSnapshot(_ id: GenerationID) async throws {
    try await gate(.quarantine)
    quarantinedSnapshots[id] = nil
  }

  /// Turns back the moments at which things came into quarantine.
  package func ageQuarantine(by seconds: TimeInterval, at now: Date) {
    for id in quarantinedSandboxes.keys { quarantinedSandboxes[id] = now.addingTimeInterval(-seconds) }
    for id in quarantinedSnapshots.keys { quarantinedSnapshots[id]?.quarantinedAt = now.addingTimeInterval(-seconds) }
  }
}
