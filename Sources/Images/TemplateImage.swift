package import Foundation
package import Model
package import SystemPackage

/// A bootable template: an immutable ext4 image and the defaults of user processes in it.
package struct TemplateImage: Sendable, Equatable {
  package let name: SafeName
  package let team: TeamID
  package let digest: ImageDigest
  /// The raw, sparse image. All sandboxes of the template share it; it must never be opened for writing.
  package let path: FilePath
  /// Size of the file system; a sandbox's disk cannot be smaller.
  package let sizeBytes: Int64
  /// Bytes allocated for the image on the host's disk.
  package let allocatedBytes: Int64
  package let defaultUser: String
  package let defaultWorkdir: String
  package let envs: [String: String]
  package let createdAt: Date
  /// Digest of the guest agent in the image.
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

/// The kernel that guests boot.
package struct GuestKernel: Sendable, Equatable {
  /// Uncompressed ELF kernel with a PVH entry note.
  package let vmlinux: FilePath
  /// gzip-compressed newc archive that loads the virtio modules and starts the guest agent from /dev/vda.
  package let initramfs: FilePath
  /// Release such as `6.1.0-56-cloud-amd64`.
  package let version: String
}
