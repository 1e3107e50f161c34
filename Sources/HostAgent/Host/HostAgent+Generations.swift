import Logging
import Model
import Snapshots

extension HostAgent {
  /// All generations that journal entries need.
  private var roots: Set<GenerationID> {
    get async {
      var roots = await named.roots.union(await templates.roots).union(await warmPool.neededGenerations)
      for controller in allControllers { roots.formUnion(await controller.neededGenerations) }
      return roots
    }
  }

  func collect() async {
    await generations.collectIfNeeded { await self.roots }
  }

  /// Shortens the chains of sandboxes that were paused since the last round and still are. Compaction does not delay a
  /// sandbox: a resume meanwhile uses the generation as it was.
  func compact() async {
    for id in generations.takeChanged() {
      guard let controller = existingController(id), let last = await controller.pausedGeneration else { continue }
      do {
        guard try await generations.chainLength(of: last) > configuration.longestChain else { continue }
        try await compact(last, of: controller)
      } catch {
        logger.warning(
          "a chain of generations was not compacted", metadata: ["sandbox.id": "\(id)", "error": "\(error)"])
      }
    }
  }

  private func compact(_ last: GenerationID, of controller: SandboxController) async throws {
    let begin = ContinuousClock.now
    let shared = await named.roots.union(await templates.roots)
    let new = GenerationID()
    try await generations.withHold(on: new) {
      try await generations.withHold(on: last) {
        _ = try await generations.compact(last, as: new, keeping: shared)
        try await controller.replaceGeneration(last, by: new)
      }
    }
    generations.requestCollection()
    logger.info(
      "compacted",
      metadata: ["sandbox.id": "\(controller.id)", "duration.ms": "\((ContinuousClock.now - begin).milliseconds)"])
  }
}

extension SandboxController {
  /// Generations that the sandbox and its microVM need at present.
  var neededGenerations: Set<GenerationID> {
    get async {
      let own = Set(entry.generations + [entry.pending].compactMap { $0 })
      return own.union(await instance?.entry.neededGenerations ?? [])
    }
  }

  /// The generation that the sandbox consists of while it is paused; nil otherwise.
  var pausedGeneration: GenerationID? { lifecycle.state == .paused ? entry.generations.first : nil }

  /// Replaces `old` with a generation of the same content, if the sandbox is still paused with `old`.
  func replaceGeneration(_ old: GenerationID, by new: GenerationID) async throws {
    try await enqueue { try await self.performReplacement(old, by: new) }.value
  }

  private func performReplacement(_ old: GenerationID, by new: GenerationID) async throws {
    guard lifecycle.state == .paused, entry.generations.first == old else { return }
    var changed = entry
    // The previous generation stays unchanged: it is the fallback if this one turns out to be damaged.
    changed.generations[0] = new
    let durable = changed
    try await saving(.commit) { try await self.context.journal.updateDurably(durable) }
    entry = durable
  }
}
