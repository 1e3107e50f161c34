import Concurrency
import Glibc
import LinuxSystem
import Logging
package import Model
import SystemPackage

extension SnapshotStore {
  /// Longer than a usual disk needs to read and write a disk of the largest size.
  private static let mergeDeadline: Duration = .seconds(3_600)
  private static let diskMode: mode_t = 0o444

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
    try mergeDisk(of: generation, to: draft, needsMerge: mergedParents > 0, manifest)
    try reached(.diskMerged)
    var copied: Set<SnapshotFile> = [.deviceState]
    if mergedParents == 0 { copied.insert(.diskLayer) }
    return try publish(
      draft, manifest, copied: generation.manifest.digests.filter { name, _ in copied.contains { $0.rawValue == name } }
    )
  }

  /// Links the disk layer under its new name if nothing is to be merged; otherwise merges it with the layers below,
  /// down to the base that `manifest` names.
  ///
  /// `qemu-img convert` with a backing file would leave out the layers between. `rebase` compares the present backing
  /// content with the future one and writes the difference into the copy. Source: qemu-img(1).
  private func mergeDisk(
    of source: Generation, to draft: GenerationDraft, needsMerge: Bool, _ manifest: GenerationManifest
  ) throws(MartletError) {
    let action = "the snapshot's disk could not be merged"
    let backing = backing(of: manifest)
    guard needsMerge else {
      return try storing(action) { () throws(SystemError) in
        try SystemError.check("link", draft.diskPath.string) { link(source.diskPath.string, draft.diskPath.string) }
      }
    }
    if let top = manifest.diskParents.first { try nameDiskLayer(of: top) }
    try storing(action) { () throws(SystemError) in
      try SparseFile.copy(source.diskPath, to: draft.diskPath, mode: 0o600)
    }
    do {
      // Without a cache flush at its end qemu-img is several times faster; publishing synchronizes the file. VMs may
      // use the layers below, but only read them.
      try Tool.runBlocking(
        "qemu-img",
        [
          "rebase", "-U", "-f", "qcow2", "-t", "unsafe", "-b", backing.path.string, "-F", backing.format,
          draft.diskPath.string,
        ],
        deadline: Self.mergeDeadline
      ).checked()
    } catch {
      throw mappedError(error, action)
    }
    try storing(action) { () throws(SystemError) in
      try SystemError.check("chmod", draft.diskPath.string) { chmod(draft.diskPath.string, Self.diskMode) }
    }
  }

  /// qemu-img reports a full disk only in its text, if at all. Source: strerror(3).
  private func mappedError(_ error: ToolError, _ action: String) -> MartletError {
    guard case .failed(_, let text) = error.reason,
      text.contains("No space left on device") || FileSystemSpace.isExhausted(at: directory)
    else {
      return MartletError(.internalError, action, cause: error)
    }
    return .storageFailure(action, SystemError("qemu-img", .noSpace))
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
