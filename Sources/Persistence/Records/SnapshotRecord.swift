package import Foundation
package import Model

/// A row of `snapshots`: a named snapshot.
///
/// ```
/// (none) → creating → ready ⇄ replacing       creating fails → (none); replacing fails → ready, unchanged
///                       └──→ deleting → (none)
/// ```
package struct SnapshotRecord: Sendable, Equatable {
  package enum Status: String, Sendable, CaseIterable {
    /// The name is reserved; the host is writing the snapshot.
    case creating
    case ready
    /// The old snapshot remains in use until the new one is complete.
    case replacing
    /// Invisible to tenants; hosts have yet to confirm the deletion.
    case deleting

    /// Whether tenants see the snapshot.
    package var isVisible: Bool { self == .ready || self == .replacing }
  }

  package var teamID: TeamID
  package var name: SafeName
  package var status: Status
  package var vcpus: Int
  package var memoryMiB: Int
  package var diskSizeMiB: Int
  /// The number of bytes allocated on disk.
  package var sizeBytes: Int64
  /// The host that stores the files.
  package var hostID: HostID
  package var sourceID: SandboxID?
  package var createdAt: Date
  package var lastUpdated: Date
  package var revision: Int
  /// The worker that changed the row last. Set by the repository; nil if it was not recorded.
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
