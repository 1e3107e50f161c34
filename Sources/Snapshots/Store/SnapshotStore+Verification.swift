import Concurrency
import Glibc
import LinuxSystem
package import Model
import SystemPackage

extension SnapshotStore {
  /// Checks device state and disk layers of the chain against their digests, which `generation(_:)` does not do. A file
  /// that has not changed on disk is checked only once. Memory pages have checksums of their own, which the pager
  /// checks when it serves them.
  /// - Throws: `snapshot_damaged`, naming the generation and the file.
  package func verify(_ generation: Generation) throws(MartletError) {
    var now = timespec()
    clock_gettime(CLOCK_REALTIME, &now)
    try verify(generation, atSeconds: Int64(now.tv_sec))
  }

  func verify(_ generation: Generation, atSeconds now: Int64) throws(MartletError) {
    try verify(.deviceState, of: generation.manifest, now)
    try verify(.diskLayer, of: generation.manifest, now)
    for parent in generation.manifest.diskParents {
      try verify(.diskLayer, of: try checkedManifest(of: parent), now)
    }
  }

  private func verify(_ file: SnapshotFile, of manifest: GenerationManifest, _ now: Int64) throws(MartletError) {
    let isIntact: Bool
    do {
      isIntact = try hasDigest(manifest.digests[file.rawValue], path(of: manifest.id).appending(file.rawValue), now)
    } catch {
      throw .unreadable(manifest.id, file, error)
    }
    guard isIntact else { throw .unusable(manifest.id, file, .wrongChecksum) }
  }

  private func hasDigest(_ expected: String?, _ path: FilePath, _ now: Int64) throws(SystemError) -> Bool {
    guard let expected else { return false }
    // The identity is taken before reading: a write during the read gives the file another identity.
    guard let file = try FileStatus.of(path.string, followingLinks: false)?.identity else {
      throw SystemError("stat", .noSuchFileOrDirectory, subject: path.string)
    }
    if verified.withLock({ $0.contains(file, digest: expected) }) { return true }
    guard try ContentDigest.of(path).digest == expected else { return false }
    // A file could change within one tick of the file system's clock and keep its identity, so recent files are not
    // remembered.
    if file.changedNanoseconds / 1_000_000_000 + 2 <= now { verified.withLock { $0.insert(file, digest: expected) } }
    return true
  }
}
