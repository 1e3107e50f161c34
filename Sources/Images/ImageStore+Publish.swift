package import Foundation
import Glibc
import LinuxSystem
package import Model
import SystemPackage

extension ImageStore {
  /// A collection keeps younger kernels and images: a create may have looked them up shortly before.
  static let collectionGrace: TimeInterval = 3_600

  /// Deletes images that neither a manifest nor `inUse` names, and kernels that were replaced.
  ///
  /// - Parameters:
  ///   - inUse: images that disks of running or paused sandboxes depend on.
  ///   - now: images and kernels changed within `collectionGrace` before this time are kept.
  /// - Returns: the deleted images.
  /// - Throws: `internal` when a manifest cannot be read: then nothing is deleted.
  @discardableResult
  package func collectGarbage(inUse: Set<ImageDigest>, now: Date = Date()) throws(MartletError) -> [ImageDigest] {
    do {
      let lock = try StoreLock.tryAcquire(lockPath)
      guard let lock else { return [] }
      defer { lock.release() }
      let needed = try referencedDigests().union(inUse)
      var deleted: [ImageDigest] = []
      for name in try Directories.names(in: blobs).sorted() {
        guard let digest = ImageDigest(blobName: name), !needed.contains(digest) else { continue }
        guard Self.isOld(blobs.appending(name), now: now), unlink(blobs.appending(name).string) == 0 else { continue }
        deleted.append(digest)
      }
      try collectKernels(now: now)
      return deleted
    } catch {
      throw Self.failure("unused images could not be collected", error)
    }
  }

  var lockPath: FilePath { directory.appending("build.lock") }

  /// Publishes a finished image as the template's. The caller holds the store's lock; `image` is moved into the store.
  func publish(_ image: FilePath, as manifest: TemplateManifest) throws {
    let blob = blobPath(manifest.digest)
    try Directories.create(blobs)
    // A team's images and their names are root's own: VMMs get images as open files.
    let isPublic = manifest.team == .platform
    try Directories.create(templates.appending(manifest.team.uuidString), mode: isPublic ? 0o755 : 0o700)
    try SystemError.check("chmod", image.string) { chmod(image.string, isPublic ? 0o444 : 0o400) }
    try Self.synchronize(image)
    try SystemError.check("rename", blob.string) { rename(image.string, blob.string) }
    // If the image exists already, its content stays and its change time is renewed, which a collection respects.
    try SmallFile.synchronizeDirectory(blobs)
    try SmallFile.replace(
      manifestPath(manifest.name, team: manifest.team), with: try manifest.encoded(), mode: isPublic ? 0o644 : 0o600)
  }

  /// Publishes a finished directory as the current kernel. The caller holds the store's lock; `staged` is moved into
  /// the store.
  func publishKernel(_ staged: FilePath, manifest: KernelManifest) throws {
    try SmallFile.replace(staged.appending("manifest.json"), with: try manifest.encoded(), mode: 0o644)
    for name in try Directories.names(in: staged) {
      let path = staged.appending(name)
      // VMMs of all users read the same.
      try SystemError.check("chmod", path.string) { chmod(path.string, 0o644) }
      try Self.synchronize(path)
    }
    let identity =
      "\(manifest.version)-\(manifest.initramfsDigest.hexadecimal.prefix(16))-"
      + UUID().uuidString.lowercased().prefix(8)
    let place = kernels.appending(identity)
    try Directories.create(kernels)
    try SystemError.check("chmod", staged.string) { chmod(staged.string, 0o755) }
    try SystemError.check("rename", place.string) { rename(staged.string, place.string) }
    try SmallFile.synchronizeDirectory(kernels)
    let link = directory.appending("kernel.new")
    unlink(link.string)
    try SystemError.check("symlink", link.string) { symlink("kernels/\(identity)", link.string) }
    try SystemError.check("rename", kernelLink.string) { rename(link.string, kernelLink.string) }
    try SmallFile.synchronizeDirectory(directory)
  }

  static func synchronize(_ path: FilePath) throws(SystemError) {
    let descriptor = try OwnedDescriptor.open(path.string, O_RDONLY)
    try SystemError.check("fsync", path.string) { fsync(descriptor.rawValue) }
  }

  private func referencedDigests() throws -> Set<ImageDigest> {
    var digests: Set<ImageDigest> = []
    for team in try Directories.names(in: templates).compactMap({ Self.team(directory: $0) }) {
      for name in try templateNames(of: team) {
        if let manifest = try manifest(name, team: team) { digests.insert(manifest.digest) }
      }
    }
    return digests
  }

  private func collectKernels(now: Date) throws(SystemError) {
    guard let current = Self.readLink(kernelLink) else { return }
    for name in try Directories.names(in: kernels)
    where "kernels/\(name)" != current && Self.isOld(kernels.appending(name), now: now) {
      try Directories.removeTree(kernels.appending(name))
    }
  }

  private static func isOld(_ path: FilePath, now: Date) -> Bool {
    var status = stat()
    guard lstat(path.string, &status) == 0 else { return false }
    return Date(timeIntervalSince1970: TimeInterval(status.st_ctim.tv_sec)) < now.addingTimeInterval(-collectionGrace)
  }

  private static func failure(_ sentence: String, _ error: any Error) -> MartletError {
    MartletError(.internalError, sentence, cause: error)
  }
}
