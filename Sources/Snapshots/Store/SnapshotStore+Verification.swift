import LinuxSystem
package import Model
import Synchronization
import SystemPackage

extension SnapshotStore {
  /// Checks what `generation` does not read: device state and disk layers of the chain against their digests, each file once as
  /// long as it does not change on disk. Memory pages carry checksums of their own, which the pager checks when it serves them.
  /// - Throws: `snapshot_damaged`, naming the generation and the file.
  package func verify(_ generation: Generation) throws(MartletError) {
    try verify(.deviceState, of: generation.manifest)
    try verify(.diskLayer, of: generation.manifest)
    for parent in generation.manifest.diskParents {
      try verify(.diskLayer, of: try checkedManifest(of: parent))
    }
  }

  private func verify(_ file: SnapshotFile, of manifest: GenerationManifest) throws(MartletError) {
    let isIntact: Bool
    do {
      isIntact = try hasDigest(manifest.digests[file.rawValue], path(of: manifest.id).appending(file.rawValue))
    } catch {
      throw .unreadable(manifest.id, file, error)
    }
    guard isIntact else { throw .unusable(manifest.id, file, .wrongChecksum) }
  }

  private func hasDigest(_ expected: String?, _ path: FilePath) throws(SystemError) -> Bool {
    guard let expected else { return false }
    // Taken before reading: what is written meanwhile makes it another file.
    guard let file = try FileStatus.of(path.string, followingLinks: false)?.identity else {
      throw SystemError("stat", .noSuchFileOrDirectory, subject: path.string)
    }
    if verified.withLock({ $0.contains(file, digest: expected) }) { return true }
    guard try FileDigest.of(path).digest == expected else { return false }
    verified.withLock { $0.insert(file, digest: expected) }
    return true
  }
}
