package import Foundation
package import Model

/// A named snapshot as the control plane knows it: one row of `snapshots`.
///
/// ```
/// (none) → creating → ready ⇄ replacing          creating fails → (none); replacing fails → ready, as it was
///                       └──→ deleting → (none)
/// ```
package struct SnapshotRecord: Sendable, Equatable {
  package enum Status: String, Sendable, CaseIterable {
    /// The name is taken; the host is freezing the sandbox.
    case creating
    case ready
    /// The old snapshot is in use until the new one is there.
    case replacing
    /// Gone for tenants; hosts have yet to confirm.
    case deleting

    /// Whether tenants see it.
    package var isVisible: Bool { self == .ready || self == .replacing }
  }

  package var teamID: TeamID
  package var name: SafeName
  package var status: Status
  package var vcpus: Int
  package var memoryMiB: Int
  package var diskSizeMiB: Int
  /// Allocated bytes (DM-4).
  package var sizeBytes: Int64
  /// Where the files are.
  package var hostID: HostID
  package var sourceID: SandboxID?
  package var createdAt: Date
  package var lastUpdated: Date
  package var revision: Int
  /// Who changed it last. Set by the repository; nil when nobody noted it.
  package var worker: WorkerID?

  package init(
    teamID: TeamID, name: SafeName, status: Status = .creating, vcpus: Int, memoryMiB: Int, diskSizeMiB: Int,
    sizeBytes: Int64 = 0,
    hostID: HostID, sourceID: SandboxID? = nil, createdAt: Date, lastUpdated: Date? = nil, revision: Int = 0,
    worker: WorkerID? = nil
  ) {
    self.teamID = teamID
    self.name = name
    self.status = status
    self.vcpus = vcpus
    self.memoryMiB = memoryMiB
    self.diskSizeMiB = diskSizeMiB
    self.sizeBytes = sizeBytes
    self.hostID = hostID
    self.sourceID = sourceID
    self.createdAt = StoredTime.rounded(createdAt)
    self.lastUpdated = StoredTime.rounded(lastUpdated ?? createdAt)
    self.revision = revision
    self.worker = worker
  }
}
