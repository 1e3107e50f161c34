package import Foundation
package import HostAPI
package import Model

/// The journal entry of a sandbox, from before its first resource to after its last.
package struct SandboxEntry: Sendable, Codable, Equatable {
  package enum Phase: String, Sendable, Codable {
    case creating
    case running
    /// `pending` is being written; the microVM is kept until it is published.
    case pausing
    case paused
    case resuming
    /// Ended with `reason`; its disk and console are kept until it is destroyed.
    case failed
    case destroying
  }

  package var spec: SandboxSpec
  package var phase: Phase
  /// The access token that the guest agent requires on each call; nil when the sandbox is not secured.
  package var accessToken: String?
  /// Environment of the guest's processes: the template's variables and the sandbox's own.
  package var environment: [String: String] = [:]
  /// Its present microVM, or after a restart the last one.
  package var instance: InstanceID?
  /// Generations that it can be resumed from, newest first: the last pause and the one before.
  package var generations: [GenerationID] = []
  /// The generation that a pause is writing.
  package var pending: GenerationID?
  package var isAutoPaused = false
  package var isolation: Isolation?
  package var hostAddress: IPv4Address?
  package var startedAt: Date?
  package var reason: String?
  /// Nil in entries of earlier versions.
  package var createdAt: Date?
  /// When the sandbox came into quarantine: no database knows it. It is paused, and waits for an administrator.
  package var quarantinedAt: Date?

  package var id: SandboxID { spec.id }

  package init(spec: SandboxSpec, accessToken: String?) {
    self.spec = spec
    self.accessToken = accessToken
    phase = .creating
    createdAt = Date()
  }
}
