package import Foundation
package import Model

/// A create that the client may repeat without getting a second sandbox.
package struct IdempotencyRecord: Sendable, Equatable {
  package var teamID: TeamID
  /// Chosen by the client.
  package var key: String
  /// SHA-256 of what is asked for.
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

/// What a team holds at the moment, in the terms of `QuotaRecord`.
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

/// Why a sandbox or snapshot was not admitted; nothing was written.
package enum AdmissionRefusal: Error, Sendable, Equatable {
  /// - Parameters:
  ///   - what: the bound's name on the wire, such as `max_vcpus`.
  ///   - used: what the team holds without the request.
  case quota(what: String, limit: Int, used: Int, requested: Int)
  case teamIsGone
  /// The same key was used before.
  case repeated(IdempotencyRecord)
}
