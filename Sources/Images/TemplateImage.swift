package import Foundation
package import Model
package import SystemPackage

/// A template that can be booted: an immutable ext4 image and how user processes run in it by default.
package struct TemplateImage: Sendable, Equatable {
  package let name: SafeName
  package let team: TeamID
  package let digest: ImageDigest
  /// The raw, sparse image. Shared by all sandboxes of the template; must never be opened for writing.
  package let path: FilePath
  /// Size of the file system; a sandbox's disk cannot be smaller.
  package let sizeBytes: Int64
  /// Bytes the image takes on the host's disk (DM-4).
  package let allocatedBytes: Int64
  package let defaultUser: String
  package let defaultWorkdir: String
  package let envs: [String: String]
  package let createdAt: Date
  /// The guest agent inside.
  package let agentDigest: ImageDigest

  init(manifest: TemplateManifest, path: FilePath) {
    name = manifest.name
    team = manifest.team
    digest = manifest.digest
    self.path = path
    sizeBytes = manifest.imageSizeBytes
    allocatedBytes = manifest.allocatedBytes
    defaultUser = manifest.defaultUser
    defaultWorkdir = manifest.defaultWorkdir
    envs = manifest.envs
    createdAt = manifest.createdAt
    agentDigest = manifest.agentDigest
  }
}

/// The kernel every guest boots.
package struct GuestKernel: Sendable, Equatable {
  /// Uncompressed ELF kernel with a PVH entry note.
  package let vmlinux: FilePath
  /// gzip-compressed newc archive that loads the virtio modules and starts the guest agent from /dev/vda.
  package let initramfs: FilePath
  /// Release such as `6.1.0-56-cloud-amd64`.
  package let version: String
}
