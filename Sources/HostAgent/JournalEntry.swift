package import Disks
package import Foundation
package import HostInterface
package import Hypervisor
package import Model

/// What the agent writes down about a sandbox before any of its resources exists.
///
/// Everything that can be allocated follows from `id`, `slot` and `userID` (names, paths, addresses), so the entry is complete from its
/// first moment: removing is walking the same list whatever point creation had reached. `disk` and `vmm` add what is known later;
/// without them both are found by name.
package struct JournalEntry: Sendable, Codable, Equatable {
  package enum Phase: String, Sendable, Codable {
    case creating
    case running
    /// Ended with `reason`; its disk and console are kept until it is destroyed.
    case failed
    case destroying
  }

  package var spec: SandboxSpec
  package var phase: Phase
  package var slot: Int
  package var userID: UInt32
  /// What the guest agent demands on each call; nil when the sandbox is not secured.
  package var accessToken: String?
  package var disk: Disk?
  package var vmm: VMMIdentity?
  package var hostAddress: IPv4Address?
  package var isolation: Isolation?
  package var startedAt: Date?
  package var reason: String?

  package var id: SandboxID { spec.id }

  package init(spec: SandboxSpec, slot: Int, userID: UInt32, accessToken: String?) {
    self.spec = spec
    self.slot = slot
    self.userID = userID
    self.accessToken = accessToken
    phase = .creating
  }
}
