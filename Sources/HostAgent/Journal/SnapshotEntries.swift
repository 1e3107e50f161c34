package import Foundation
package import HostAPI
package import Model

/// A named snapshot.
package struct NamedSnapshotEntry: Sendable, Codable, Equatable {
  package var teamID: TeamID
  package var name: SafeName
  package var generation: GenerationID
  package var shape: SandboxShape
  /// The access token that the guest agent in the generation requires until a new sandbox is initialized.
  package var accessToken: String?
  package var environment: [String: String]
  package var createdAt: Date
  /// When the snapshot came into quarantine: no database knows it. It has lost its name until it is released.
  package var quarantinedAt: Date?
}

/// The snapshot of a template that was booted once in one shape and not initialized.
package struct TemplateSnapshotEntry: Sendable, Codable, Equatable {
  package var key: TemplateSnapshotKey
  package var generation: GenerationID
}

/// Everything that determines a booted template's memory. The machine is checked through the generation's manifest.
package struct TemplateSnapshotKey: Sendable, Codable, Hashable {
  package var imageDigest: String
  package var kernel: String
  package var shape: SandboxShape

  package var text: String {
    "\(imageDigest)/\(kernel)/\(shape.vcpus)x\(shape.memoryMiB)+\(shape.diskSizeMiB)"
  }
}
