import Glibc
import LinuxSystem
package import Model
import SystemPackage

extension SnapshotStore {
  /// VMMs get the disk as an open file.
  static let privateMode: UInt32 = 0o400

  /// Makes a complete draft durable and visible, in that order: digests, fsync, rename, fsync. Blocks. A draft that
  /// cannot be published stays unchanged.
  ///
  /// The guest may run meanwhile.
  /// - Throws: `snapshot_damaged` when the draft's files are inconsistent with each other or with the files that they
  ///   depend on, `insufficient_storage`.
  package func publish(_ draft: GenerationDraft, _ manifest: GenerationManifest) throws(MartletError) -> Generation {
    try publish(draft, manifest, copied: [:])
  }

  /// - Parameter copied: expected digests of files that were copied from another generation.
  func publish(
    _ draft: GenerationDraft, _ manifest: GenerationManifest, copied: [String: String]
  ) throws(MartletError) -> Generation {
    guard manifest.id == draft.id else {
      throw MartletError(.internalError, "the manifest belongs to another snapshot")
    }
    var manifest = manifest
    // One that was copied as it is may have the header of an earlier version.
    let isNewDisk = copied[SnapshotFile.diskLayer.rawValue] == nil
    manifest.memoryParents = try checkContent(of: draft, manifest, isNewDisk: isNewDisk).layers.dropFirst().map(
      \.generation)
    for file in SnapshotFile.content {
      try seal(file, of: draft, in: &manifest)
    }
    guard copied.allSatisfy({ manifest.digests[$0] == $1 }) else {
      throw MartletError(.internalError, "the snapshot changed while it was copied")
    }
    try reached(.filesSynchronized)
    let bytes = try manifest.encoded()
    try storing("the snapshot could not be published") { () throws(SystemError) in
      // A failed attempt may have left a manifest.
      try StoreFile.remove(draft.path(of: .manifest))
      try StoreFile.create(draft.path(of: .manifest), bytes, mode: Self.privateMode)
      try synchronize(draft.path(of: .manifest))
    }
    try reached(.manifestWritten)
    try move(draft)
    return Generation(manifest: try decode(bytes, of: draft.id), directory: path(of: draft.id))
  }

  /// Checks that memory, disk and manifest are consistent, and that everything that they depend on exists.
  private func checkContent(
    of draft: GenerationDraft, _ manifest: GenerationManifest, isNewDisk: Bool
  ) throws(MartletError) -> MemoryHeader {
    let header = try header(of: draft.id, at: draft.headerPath)
    guard header.memoryBytes == manifest.memoryBytes else {
      throw .unusable(draft.id, .memoryHeader, .invalid("memory size"))
    }
    _ = try MemoryLayer.open(header.layers[0], path: draft.memoryPath)
    try checkLayers(header.layers.dropFirst())
    guard manifest.diskParents.count <= GenerationManifest.maximumDiskParents else {
      throw MartletError(.internalError, "the snapshot's disk depends on too many snapshots")
    }
    for parent in manifest.diskParents {
      _ = try checkedManifest(of: parent)
    }
    if isNewDisk, manifest.disk.format == "qcow2" {
      try checkDiskLayer(of: draft, sizeBytes: manifest.disk.sizeBytes)
    }
    return header
  }

  /// Makes one file immutable and durable, and records it.
  private func seal(
    _ file: SnapshotFile, of draft: GenerationDraft, in manifest: inout GenerationManifest
  ) throws(MartletError) {
    let path = draft.path(of: file)
    do throws(SystemError) {
      try SystemError.check("chmod", path.string) { chmod(path.string, Self.privateMode) }
      try synchronize(path)
      guard SnapshotFile.digested.contains(file) else {
        manifest.sizes[file.rawValue] = try FileStatus.of(path.string, followingLinks: false)?.sizeBytes ?? 0
        return
      }
      let result = try ContentDigest.of(path)
      manifest.sizes[file.rawValue] = result.sizeBytes
      manifest.digests[file.rawValue] = result.digest
    } catch {
      throw .unreadable(draft.id, file, error)
    }
  }

  private func move(_ draft: GenerationDraft) throws(MartletError) {
    let target = path(of: draft.id)
    let action = "the snapshot could not be published"
    try storing(action) { () throws(SystemError) in
      try SystemError.check("chmod", draft.directory.string) { chmod(draft.directory.string, Self.directoryMode) }
      try SmallFile.synchronizeDirectory(draft.directory)
    }
    try reached(.draftSynchronized)
    try storing(action) { () throws(SystemError) in
      try SystemError.check("rename", target.string) { rename(draft.directory.string, target.string) }
    }
    try reached(.generationRenamed)
    try storing(action) { () throws(SystemError) in
      try SmallFile.synchronizeDirectory(generationsDirectory)
      try SmallFile.synchronizeDirectory(draftsDirectory)
    }
    try reached(.generationPublished)
  }

  private func synchronize(_ path: FilePath) throws(SystemError) {
    let descriptor = try OwnedDescriptor.open(path.string, O_RDONLY | O_NOFOLLOW)
    try SystemError.check("fsync", path.string) { fsync(descriptor.rawValue) }
  }
}
