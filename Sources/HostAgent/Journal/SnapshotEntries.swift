package import Foundation
package import HostAPI
package import Model

/// A generation that a tenant gave a name.
package struct NamedSnapshotEntry: Sendable, Codable, Equatable {
  package var teamID: TeamID
  package var name: SafeName
  package var generation: GenerationID
  package var shape: SandboxShape
  /// What the frozen guest agent demands, until the copy is told its own.
  package var accessToken: String?
  package var environment: [String: String]
  package var createdAt: Date
}

/// A template, booted once in one shape, before it became anybody's sandbox.
package struct TemplateSnapshotEntry: Sendable, Codable, Equatable {
  package var key: TemplateSnapshotKey
  package var generation: GenerationID
}

/// Everything that a booted template's memory depends on; the machine is checked by the generation's manifest.
package struct TemplateSnapshotKey: Sendable, Codable, Hashable {
  package var imageDigest: String
  package var kernel: String
  package var shape: SandboxShape

  package var text: String {
    "\(imageDigest)/\(kernel)/\(shape.vcpus)x\(shape.memoryMiB)+\(shape.diskSizeMiB)"
  }
}
