package import Foundation
package import Model

package struct HostTemplate: Sendable, Equatable {
  package enum Kind: String, Sendable, Codable {
    /// An image that is booted, once per shape; afterwards its snapshot is restored.
    case base
    /// The memory, processes and disk of a sandbox at one moment.
    case snapshot
  }

  package var name: SafeName
  package var teamID: TeamID
  package var kind: Kind
  /// The shape of all sandboxes from a snapshot; nil for a base template.
  package var shape: SandboxShape?
  /// The number of bytes allocated on disk.
  package var sizeBytes: Int64
  package var createdAt: Date

  package init(
    name: SafeName, teamID: TeamID, kind: Kind = .base, shape: SandboxShape? = nil, sizeBytes: Int64, createdAt: Date
  ) {
    self.name = name
    self.teamID = teamID
    self.kind = kind
    self.shape = shape
    self.sizeBytes = sizeBytes
    self.createdAt = createdAt
  }
}

package struct SnapshotRequest: Sendable, Equatable {
  package var sandboxID: SandboxID
  package var name: SafeName
  package var teamID: TeamID
  package var overwrites: Bool

  package init(sandboxID: SandboxID, name: SafeName, teamID: TeamID, overwrites: Bool = false) {
    self.sandboxID = sandboxID
    self.name = name
    self.teamID = teamID
    self.overwrites = overwrites
  }
}
