package import Foundation
package import Model

/// A create request with an idempotency key: the client may repeat it without creating a second sandbox.
package struct IdempotencyRecord: Sendable, Equatable {
  package var teamID: TeamID
  /// Chosen by the client.
  package var key: String
  /// SHA-256 of the request.
  package var requestHash: [UInt8]
  package var sandboxID: SandboxID
  package var createdAt: Date

  package init(teamID: TeamID, key: String, requestHash: [UInt8], sandboxID: SandboxID, createdAt: Date) {
    self.teamID = teamID
    self.key = key
    self.requestHash = requestHash
    self.sandboxID = sandboxID
    self.createdAt = StoredTime.rounded(createdAt)
  }
}

/// A team's present usage, in the units of `QuotaRecord`.
package struct TeamUsage: Sendable, Equatable {
  package var sandboxes = 0
  package var vcpus = 0
  package var memoryMiB = 0
  package var diskMiB = 0
  package var snapshots = 0

  package init(sandboxes: Int = 0, vcpus: Int = 0, memoryMiB: Int = 0, diskMiB: Int = 0, snapshots: Int = 0) {
    self.sandboxes = sandboxes
    self.vcpus = vcpus
    self.memoryMiB = memoryMiB
    self.diskMiB = diskMiB
    self.snapshots = snapshots
  }
}

/// The reason why a sandbox or snapshot was not admitted; nothing was written.
package enum AdmissionRefusal: Error, Sendable, Equatable {
  /// - Parameters:
  ///   - what: the quota's name in the API, such as `max_vcpus`.
  ///   - used: the team's usage without the request.
  case quota(what: String, limit: Int, used: Int, requested: Int)
  case teamIsGone
  /// The idempotency key was used before, by this earlier request.
  case repeated(IdempotencyRecord)
}
