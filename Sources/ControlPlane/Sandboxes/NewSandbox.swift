package import HostAPI
package import Model
package import Persistence

/// A tenant's request for a sandbox. A shape value that is nil is the default, or that of the snapshot.
package struct NewSandbox: Sendable, Equatable {
  package var template: SafeName
  package var vcpus: Int?
  package var memoryMiB: Int?
  package var diskSizeMiB: Int?
  /// Idle time after which the sandbox is paused; 0 means never.
  package var timeoutSeconds = 0
  package var metadata: [String: String] = [:]
  package var envs: [String: String] = [:]
  package var network = NetworkPolicy()
  /// Whether the guest agent requires a per-sandbox token for every call.
  package var isSecured = true
  /// Whether a request for the paused sandbox resumes it.
  package var autoResumes = false

  package init(template: SafeName = .minimal) {
    self.template = template
  }

  /// - Throws: `invalid_request` with the name of the field and its bounds.
  package func validate() throws(MartletError) {
    try spec(team: .platform).validate()
  }

  func spec(team: TeamID) -> SandboxSpec {
    var spec = SandboxSpec(
      teamID: team, template: template, timeoutSeconds: timeoutSeconds, metadata: metadata, envs: envs,
      network: network,
      isSecured: isSecured)
    if let vcpus { spec.vcpus = vcpus }
    if let memoryMiB { spec.memoryMiB = memoryMiB }
    if let diskSizeMiB { spec.diskSizeMiB = diskSizeMiB }
    return spec
  }

  /// The specification of a sandbox from a snapshot, which fixes the shape.
  /// - Throws: `invalid_request` with the snapshot's values when the request contains others.
  func spec(team: TeamID, from snapshot: SnapshotRecord) throws(MartletError) -> SandboxSpec {
    let pairs = [(vcpus, snapshot.vcpus), (memoryMiB, snapshot.memoryMiB), (diskSizeMiB, snapshot.diskSizeMiB)]
    guard pairs.allSatisfy({ $0.0 == nil || $0.0 == $0.1 }) else {
      throw MartletError(
        .invalidRequest,
        "snapshot \(snapshot.name) has \(snapshot.vcpus) vcpus, memory_mb \(snapshot.memoryMiB) and disk_size_mb "
          + "\(snapshot.diskSizeMiB), which its sandboxes share; omit these fields or give these values")
    }
    var spec = spec(team: team)
    spec.vcpus = snapshot.vcpus
    spec.memoryMiB = snapshot.memoryMiB
    spec.diskSizeMiB = snapshot.diskSizeMiB
    return spec
  }
}

/// A sandbox after an operation, with the durations of the operation's phases on the host.
package struct SandboxResult: Sendable, Equatable {
  package var record: SandboxRecord
  package var timings: [PhaseTiming]
}
