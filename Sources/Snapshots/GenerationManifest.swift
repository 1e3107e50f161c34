package import Foundation
package import Model

/// `manifest.json` of a generation: its content, the machine that can restore it, and the generations it depends on.
package struct GenerationManifest: Sendable, Codable, Equatable {
  package static let currentFormat = 1

  package struct DiskLayer: Sendable, Codable, Equatable {
    /// Size of the disk as the guest sees it.
    package var sizeBytes: Int64
    /// `qcow2` or `raw`.
    package var format: String
    /// Absolute path of the immutable image at the bottom of the chain.
    package var basePath: String
    package var baseFormat: String
    /// Digest of that image's content.
    package var baseDigest: String

    package init(sizeBytes: Int64, format: String, basePath: String, baseFormat: String, baseDigest: String) {
      self.sizeBytes = sizeBytes
      self.format = format
      self.basePath = basePath
      self.baseFormat = baseFormat
      self.baseDigest = baseDigest
    }
  }

  package var format = Self.currentFormat
  package var id: GenerationID
  /// The generation that this one's memory was compared with; nil for the first of a sandbox.
  package var parent: GenerationID?
  /// The generations whose disk layers are below this one's, nearest first.
  package var diskParents: [GenerationID]
  package var createdAt: Date
  package var machine: MachineDescription
  package var vcpus: Int
  package var memoryBytes: Int64
  package var disk: DiskLayer
  /// Name of the template that the sandbox was created from.
  package var template: SafeName
  /// File name → SHA-256 in hexadecimal, of `memory.header`, `device.state` and `disk.layer`; filled in by `publish`.
  /// The pages of `memory.layer` have checksums of their own.
  package var digests: [String: String] = [:]
  /// The other generations whose layers hold pages of this one's memory, as in `memory.header`; filled in by `publish`.
  package var memoryParents: [GenerationID] = []
  /// File name → size in bytes, of all files but the manifest; filled in by `publish`.
  package var sizes: [String: Int64] = [:]

  /// The generations whose files this one needs, including itself.
  package var needs: Set<GenerationID> { Set(memoryParents).union(diskParents).union([id]) }

  package init(
    id: GenerationID, parent: GenerationID?, diskParents: [GenerationID], createdAt: Date, machine: MachineDescription,
    vcpus: Int,
    memoryBytes: Int64, disk: DiskLayer, template: SafeName
  ) {
    self.id = id
    self.parent = parent
    self.diskParents = diskParents
    self.createdAt = createdAt
    self.machine = machine
    self.vcpus = vcpus
    self.memoryBytes = memoryBytes
    self.disk = disk
    self.template = template
  }
}
