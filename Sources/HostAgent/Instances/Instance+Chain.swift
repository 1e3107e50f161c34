import Disks
import Glibc
import Logging
import Model
import Snapshots
import SystemPackage

extension Instance {
  /// Makes later checkpoints depend on `merged`, which has the same content as `old` and depends on fewer generations.
  /// The running guest is not affected: its disk stays over its present layers, and only later captures use the merged
  /// layer.
  ///
  /// The caller holds `merged` against collection.
  func build(on merged: Generation, insteadOf old: GenerationID) async throws {
    guard entry.base == old else { return }
    let before = entry
    entry.base = merged.id
    if entry.diskChain.contains(old) {
      entry.shortcut = InstanceEntry.Shortcut(old: old, merged: merged.id, parents: merged.manifest.diskParents)
    }
    do {
      try await context.journal.update(entry)
    } catch {
      // After an error, memory and journal must name the same generations, so that a generation that the next start
      // needs is not collected.
      (entry.base, entry.shortcut) = (before.base, before.shortcut)
      throw error
    }
  }

  /// The overlays that the next generation's disk layer is made of, the uppermost first, and the generations whose disk
  /// layers then lie below it.
  ///
  /// Overlays that were never published have no generation to live in: they are merged with the disk. A shorter chain
  /// with the same content stands for the one that the guest lies over.
  func captured(_ disk: Disk) -> (disks: [Disk], parents: [GenerationID]) {
    // Those that were never published are all on top.
    let count = entry.diskChain.lastIndex(where: entry.unpublishedLayers.contains).map { $0 + 1 } ?? 0
    let unpublished = entry.diskChain[..<count].filter(entry.unpublishedLayers.contains)
    var parents = Array(entry.diskChain[count...])
    if let shortcut = entry.shortcut, let index = parents.firstIndex(of: shortcut.old) {
      parents.replaceSubrange(index..., with: [shortcut.merged] + shortcut.parents)
    }
    return ([disk] + unpublished.map { unpublishedDisk(of: $0, like: disk) }, parents)
  }

  private func unpublishedDisk(of layer: GenerationID, like disk: Disk) -> Disk {
    let named = context.parts.snapshots.namedLayer(of: layer)
    // An earlier version captured it under this name; where it had to merge, only this file has all of it.
    if let retired = entry.retiredDisks?.first(where: { $0.layer == layer }), access(named.string, F_OK) != 0 {
      return retired.disk
    }
    var former = disk
    former.path = named
    former.isSelfContained = nil
    return former
  }
}

extension SandboxController {
  /// Compacts the chain that the next checkpoint would depend on, if it has become long. Maintenance compacts only
  /// sandboxes that stay paused for a while, not those that are resumed at once or copied without being paused. The
  /// guest runs meanwhile.
  func shortenChain(of instance: Instance) async {
    do {
      guard let base = await instance.entry.base,
        try await context.generations.chainLength(of: base) >= context.configuration.longestGrowingChain
      else { return }
      let begin = ContinuousClock.now
      let merged = GenerationID()
      let kept = await context.templates.roots
      try await context.generations.withHold(on: merged) {
        let generation = try await context.generations.compact(base, as: merged, keeping: kept)
        try await instance.build(on: generation, insteadOf: base)
      }
      context.logger.info(
        "compacted the chain of a running sandbox",
        metadata: ["duration.ms": "\((ContinuousClock.now - begin).milliseconds)"])
    } catch {
      // The chain may still grow; the next checkpoint tries again.
      context.logger.warning("a chain of generations was not compacted", metadata: ["error": "\(error)"])
    }
  }
}
