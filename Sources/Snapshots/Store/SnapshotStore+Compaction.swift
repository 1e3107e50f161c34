import Concurrency
import Glibc
import LinuxSystem
import Logging
package import Model
import Qcow
import SystemPackage

extension SnapshotStore {
  private static let diskMode: UInt32 = 0o400

  /// Writes a generation with the same content as `id` that depends only on generations in `kept`: the layers between
  /// are merged. The sandbox keeps its generation until the caller commits the new one. Slow: reads and writes layers.
  /// Blocks.
  ///
  /// The new generation also needs the layers below the disk layer of a kept generation, because that layer is not
  /// rewritten. Everything that is copied is verified, so that damaged data does not get new checksums.
  /// - Throws: `not_found`, `snapshot_damaged`, `insufficient_storage`; nothing is left behind then.
  package func compact(
    _ id: GenerationID, as new: GenerationID, keeping kept: Set<GenerationID>
  ) throws(MartletError) -> Generation {
    compacting.withLock { $0[new] = [id, new] }
    defer { compacting.withLock { $0[new] = nil } }
    let source = try opened(id)
    try verify(source.generation)
    let draft = try begin(new)
    do {
      return try merge(source, into: draft, keeping: kept)
    } catch {
      do {
        try discard(draft)
      } catch let leftover {
        logger.warning(
          "a draft could not be removed, the next collection removes it",
          metadata: ["generation.id": "\(new)", "error": "\(leftover)"])
      }
      throw error
    }
  }

  private func merge(
    _ source: OpenedGeneration, into draft: GenerationDraft, keeping kept: Set<GenerationID>
  ) throws(MartletError) -> Generation {
    let generation = source.generation
    try MemoryMerger(source.header, keeping: kept) { self.path(of: $0).appending(SnapshotFile.memoryLayer.rawValue) }
      .write(draft)
    try reached(.memoryMerged)
    try storing("the snapshot's devices could not be copied") { () throws(SystemError) in
      try SparseFile.copy(generation.devicePath, to: draft.devicePath, mode: 0o600)
    }
    copyWorkingSet(of: generation, to: draft)
    try reached(.deviceStateCopied)
    var manifest = generation.manifest
    manifest.id = draft.id
    manifest.parent = manifest.parent.flatMap { kept.contains($0) ? $0 : nil }
    let mergedParents = manifest.diskParents.prefix { !kept.contains($0) }.count
    manifest.diskParents.removeFirst(mergedParents)
    try mergeDisk(of: generation, with: generation.manifest.diskParents.prefix(mergedParents), to: draft)
    try reached(.diskMerged)
    var copied: Set<SnapshotFile> = [.deviceState]
    if mergedParents == 0 { copied.insert(.diskLayer) }
    return try publish(
      draft, manifest, copied: generation.manifest.digests.filter { name, _ in copied.contains { $0.rawValue == name } }
    )
  }

  /// The layer itself under another name when nothing is to be merged, else its merger with those of `merged`, the
  /// uppermost first.
  private func mergeDisk(
    of source: Generation, with merged: ArraySlice<GenerationID>, to draft: GenerationDraft
  ) throws(MartletError) {
    let action = "the snapshot's disk could not be merged"
    guard !merged.isEmpty else {
      return try storing(action) { () throws(SystemError) in
        try SystemError.check("link", draft.diskPath.string) { link(source.diskPath.string, draft.diskPath.string) }
      }
    }
    var layers: [QcowLayer] = []
    for id in [source.id] + merged { layers.append(try diskLayer(of: id, sizeBytes: nil)) }
    do {
      try QcowLayerWriter.write(layers, to: draft.diskPath, mode: Self.diskMode)
    } catch {
      switch error {
      case .system(let error): throw .storageFailure(action, error)
      case .format(let error): throw MartletError(.snapshotDamaged, action, cause: error)
      }
    }
  }

  /// Copies the working set: the memory is the same, and so are the pages needed first. The file is only a cache, so a
  /// failure is ignored.
  private func copyWorkingSet(of source: Generation, to draft: GenerationDraft) {
    do throws(SystemError) {
      try SparseFile.copy(source.workingSetPath, to: draft.path(of: .workingSet), mode: 0o400)
    } catch {
      unlink(draft.path(of: .workingSet).string)
    }
  }
}
