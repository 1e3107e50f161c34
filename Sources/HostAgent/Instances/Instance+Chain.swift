import Disks
import Logging
import Model
import Snapshots

extension Instance {
  /// Makes later checkpoints depend on `merged`, which has the same content as `old` and depends on fewer generations.
  /// The running guest is not affected: its disk stays over its present layers, and only later captures use the merged
  /// layer.
  ///
  /// The caller holds `merged` against collection.
  func build(on merged: Generation, insteadOf old: GenerationID) async throws {
    guard entry.base == old else { return }
    try await context.parts.disks.link(merged.diskPath, as: context.diskLayer(of: merged.id))
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

  /// The base onto which a checkpoint must merge the guest's disk, because some layers below have no published
  /// generation, or because a shorter chain with the same content exists; nil when the disk is captured unchanged.
  var mergeTarget: (base: DiskBase, chain: [GenerationID])? {
    guard let disk = entry.disk, !entry.unpublishedLayers.isEmpty || entry.shortcut != nil else { return nil }
    // Unpublished layers are always the topmost ones.
    let unpublished = entry.diskChain.lastIndex(where: entry.unpublishedLayers.contains).map { $0 + 1 } ?? 0
    var chain = Array(entry.diskChain[unpublished...])
    if let shortcut = entry.shortcut, let index = chain.firstIndex(of: shortcut.old) {
      chain.replaceSubrange(index..., with: [shortcut.merged] + shortcut.parents)
    } else if unpublished == 0 {
      return nil
    }
    guard let top = chain.first else { return (bottom(of: disk), []) }
    return (DiskBase(path: context.diskLayer(of: top), format: disk.format, digest: disk.baseDigest), chain)
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
