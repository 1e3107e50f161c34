import Disks
import Logging
import Model
import Snapshots

extension Instance {
  /// Has later checkpoints build on `merged`, which has the same content as `old` and depends on fewer generations. The
  /// guest is not touched: its disk goes on lying over the layers it has, and only what is captured from now on lies
  /// over the merged one.
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
      // Memory and journal name the same generations, so that none that the next start looks for is collected.
      (entry.base, entry.shortcut) = (before.base, before.shortcut)
      throw error
    }
  }

  /// What a checkpoint has to merge the guest's disk onto, because some layers below have no generation to live in, or
  /// because there is a shorter chain with the same content; nil when the disk is captured as it is.
  var mergeTarget: (base: DiskBase, chain: [GenerationID])? {
    guard let disk = entry.disk, !entry.unpublishedLayers.isEmpty || entry.shortcut != nil else { return nil }
    // Those that were never published are all on top.
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
  /// Makes what the next generation will be compared with depend on few others, when by now it depends on many: tidying
  /// shortens the chains of sandboxes that stay paused for a while, not of those that are woken at once, or copied
  /// without ever being paused. The guest runs meanwhile.
  func shortenChain(of instance: Instance) async {
    do {
      guard let base = await instance.entry.base,
        try await context.generations.chainLength(of: base) >= context.configuration.longestGrowingChain
      else { return }
      let begin = ContinuousClock.now
      let merged = GenerationID()
      let kept = await context.templates.roots
      try await context.generations.holding(merged) {
        let generation = try await context.generations.compact(base, as: merged, keeping: kept)
        try await instance.build(on: generation, insteadOf: base)
      }
      context.logger.info(
        "compacted while it ran", metadata: ["duration.ms": "\((ContinuousClock.now - begin).milliseconds)"])
    } catch {
      // The chain has room for some more; the next checkpoint tries again.
      context.logger.warning("a chain of generations was not compacted", metadata: ["error": "\(error)"])
    }
  }
}
