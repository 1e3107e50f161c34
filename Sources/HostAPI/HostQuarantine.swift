package import Foundation
package import Model

/// What a host keeps aside because the database does not know it, and the installation that the host belongs to.
package struct HostQuarantine: Sendable, Equatable {
  /// Nil: the host belongs to none yet.
  package var installation: InstallationID?
  package var items: [QuarantinedItem]

  package init(installation: InstallationID? = nil, items: [QuarantinedItem] = []) {
    self.installation = installation
    self.items = items
  }
}

/// A sandbox or named snapshot in quarantine, with what the host's journal knows about it.
package struct QuarantinedItem: Sendable, Equatable {
  package enum Kind: Sendable, Equatable {
    /// - spec: with the team and the template that it was made for.
    case sandbox(spec: SandboxSpec, state: HostSandbox)
    /// - template: with the team and the name that it had.
    case snapshot(GenerationID, template: HostTemplate)
  }

  package var kind: Kind
  package var quarantinedAt: Date
  package var createdAt: Date
  /// Allocated bytes of what can be resumed or copied.
  package var sizeBytes: Int64

  package init(kind: Kind, quarantinedAt: Date, createdAt: Date, sizeBytes: Int64) {
    self.kind = kind
    self.quarantinedAt = quarantinedAt
    self.createdAt = createdAt
    self.sizeBytes = sizeBytes
  }

  /// The id by which administrators name it: that of the sandbox, or of the snapshot's generation.
  package var id: String {
    switch kind {
    case .sandbox(let spec, _): spec.id.wire
    case .snapshot(let generation, _): generation.wire
    }
  }

  /// The team that the journal names.
  package var teamID: TeamID {
    switch kind {
    case .sandbox(let spec, _): spec.teamID
    case .snapshot(_, let template): template.teamID
    }
  }
}

/// Whether two times of a snapshot's creation are one: a time loses digits on its way through journal, wire and
/// database.
package enum SnapshotMoment {
  private static let tolerance: TimeInterval = 0.001

  package static func isSame(_ first: Date, _ second: Date) -> Bool {
    abs(first.timeIntervalSince(second)) < tolerance
  }
}
