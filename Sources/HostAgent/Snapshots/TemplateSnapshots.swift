import HostAPI
import Images
import Logging
import Model
import Snapshots
import SystemPackage

/// Snapshots of booted templates: the first sandbox of a template in a shape boots, later ones are restored from its
/// snapshot.
actor TemplateSnapshots {
  /// Makes a snapshot of a guest that has just booted, before it is initialized. The guest continues. Failures are only
  /// logged.
  typealias Keep = @Sendable (Instance, any Guest) async -> Void

  /// Maximum number of snapshots; beyond it the least recently used ones are removed and collected.
  static let maximumSnapshots = 64

  private enum State {
    case known(GenerationID, used: ContinuousClock.Instant)
    case booting(waiting: [CheckedContinuation<Void, Never>])
  }

  private let parts: HostParts
  private let journal: Journal
  private let generations: GenerationKeeper
  private let logger: Logger
  private let maximumWaiting: Int
  private var states: [TemplateSnapshotKey: State] = [:]

  /// - Parameter maximumWaiting: how many sandboxes may wait for one boot.
  init(parts: HostParts, journal: Journal, generations: GenerationKeeper, maximumWaiting: Int, logger: Logger) {
    self.maximumWaiting = maximumWaiting
    self.parts = parts
    self.journal = journal
    self.generations = generations
    self.logger = logger
  }

  /// Generations from which sandboxes are created.
  var roots: Set<GenerationID> {
    Set(states.values.compactMap { if case .known(let id, _) = $0 { id } else { nil } })
  }

  /// Sandboxes that wait for a boot.
  var waiterCount: Int {
    states.values.reduce(0) { if case .booting(let waiting) = $1 { $0 + waiting.count } else { $0 } }
  }

  func load() async throws {
    for entry in try await journal.templateSnapshots() { states[entry.key] = .known(entry.generation, used: .now) }
  }

  nonisolated func key(of template: TemplateImage, _ spec: SandboxSpec) throws -> TemplateSnapshotKey {
    TemplateSnapshotKey(
      imageDigest: template.digest.description, kernel: try parts.templates.guestKernel().vmlinux.string,
      shape: SandboxShape(vcpus: spec.vcpus, memoryMiB: spec.memoryMiB, diskSizeMiB: spec.diskSizeMiB))
  }

  func generation(of key: TemplateSnapshotKey) -> GenerationID? {
    if case .known(let id, _) = states[key] { id } else { nil }
  }

  /// Runs `restore` with the snapshot of `key`, or `boot` when there is none or it is unusable. Of several callers
  /// without a snapshot one boots; the others wait for its snapshot.
  func withSnapshot(
    of key: TemplateSnapshotKey, _ restore: @Sendable (Generation) async throws -> Void,
    afterFailure cleanUp: @Sendable () async throws -> Void,
    orBoot boot: @Sendable (@escaping Keep) async throws -> Void
  ) async throws {
    while true {
      try Task.checkCancellation()
      switch states[key] {
      case .known(let id, _):
        states[key] = .known(id, used: .now)
        do {
          return try await restore(try await generations.generation(id))
        } catch let error as MartletError where Self.isUnusable(error) {
          logger.warning(
            "a template's snapshot is unusable, the template is booted again", metadata: ["error": "\(error)"])
          try await cleanUp()
          try await forget(key, id)
        }
      case .booting(let waiting):
        guard waiting.count < maximumWaiting else { throw InstanceFactory.tooManyStarts }
        await waitForBoot(of: key)
      case nil:
        states[key] = .booting(waiting: [])
        defer { bootEnded(key) }
        return try await boot { instance, guest in await self.keep(key, instance, guest) }
      }
    }
  }

  private static func isUnusable(_ error: MartletError) -> Bool {
    switch error.code {
    case .snapshotDamaged, .snapshotIncompatible, .notFound: true
    default: false
    }
  }

  private func keep(_ key: TemplateSnapshotKey, _ instance: Instance, _ guest: any Guest) async {
    let id = GenerationID()
    generations.hold(id)
    defer { generations.release(id) }
    do {
      let request = CheckpointRequest(generation: id, template: .minimal, continues: true)
      _ = try await instance.checkpoint(request, guest: guest)
      try await journal.upsert(TemplateSnapshotEntry(key: key, generation: id))
      record(key, id)
      let phases = await instance.timings.text
      logger.info("template snapshot made", metadata: ["generation.id": "\(id)", "phases.ms": "\(phases)"])
    } catch {
      logger.warning(
        "a template snapshot could not be made, the next sandbox boots again", metadata: ["error": "\(error)"])
    }
  }

  private func record(_ key: TemplateSnapshotKey, _ id: GenerationID) {
    let former = states[key]
    states[key] = .known(id, used: .now)
    if case .booting(let waiting) = former { for continuation in waiting { continuation.resume() } }
    evict()
  }

  private func bootEnded(_ key: TemplateSnapshotKey) {
    guard case .booting(let waiting) = states[key] else { return }
    states[key] = nil
    for continuation in waiting { continuation.resume() }
  }

  private func waitForBoot(of key: TemplateSnapshotKey) async {
    await withCheckedContinuation { continuation in
      guard case .booting(let waiting) = states[key] else { return continuation.resume() }
      states[key] = .booting(waiting: waiting + [continuation])
    }
  }

  private func forget(_ key: TemplateSnapshotKey, _ id: GenerationID) async throws {
    guard case .known(id, _) = states[key] else { return }
    states[key] = nil
    try await journal.remove(key)
    generations.requestCollection()
  }

  private func evict() {
    let known = states.compactMap { key, state in
      if case .known(let id, let used) = state { (key: key, id: id, used: used) } else { nil }
    }
    guard known.count > Self.maximumSnapshots, let oldest = known.min(by: { $0.used < $1.used }) else { return }
    states[oldest.key] = nil
    // Unstructured: no caller waits for it, and a row that remains is removed again after the next restart.
    Task { try? await journal.remove(oldest.key) }
    generations.requestCollection()
  }
}
