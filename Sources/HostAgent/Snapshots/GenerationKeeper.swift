import Concurrency
import Disks
import Glibc
import LinuxSystem
import Logging
import Model
import Snapshots
import SystemPackage

/// Keeps every generation that something needs, and collects the others.
///
/// What needs generations says so in the journal: sandboxes, microVMs, names, templates. A generation that is on its
/// way there is held in memory.
final class GenerationKeeper: Sendable {
  private struct State {
    var held: [GenerationID: Int] = [:]
    var wantsCollection = true
    var changed: Set<SandboxID> = []
  }

  private let store: SnapshotStore
  private let parts: HostParts
  private let logger: Logger
  private let state = Mutex(State())

  init(parts: HostParts, logger: Logger) {
    store = parts.snapshots
    self.parts = parts
    self.logger = logger
  }

  // MARK: - Holding

  func hold(_ id: GenerationID) {
    state.withLock { $0.held[id, default: 0] += 1 }
  }

  func release(_ id: GenerationID) {
    state.withLock { state in
      guard let count = state.held[id] else { return }
      state.held[id] = count > 1 ? count - 1 : nil
      if count == 1 { state.wantsCollection = true }
    }
  }

  func holding<Result>(
    _ id: GenerationID, isolation: isolated (any Actor)? = #isolation, _ body: () async throws -> Result
  ) async rethrows -> Result {
    hold(id)
    defer { release(id) }
    return try await body()
  }

  func collectSoon() {
    state.withLock { $0.wantsCollection = true }
  }

  /// A sandbox has a new generation; its chain may want compaction.
  func changed(_ id: SandboxID) {
    state.withLock { state in
      state.wantsCollection = true
      state.changed.insert(id)
    }
  }

  /// Sandboxes with a new generation since the last call.
  func takeChanged() -> Set<SandboxID> {
    state.withLock { state in
      defer { state.changed = [] }
      return state.changed
    }
  }

  // MARK: - Reading

  /// - Throws: `not_found`, `snapshot_damaged`.
  func generation(_ id: GenerationID) async throws(MartletError) -> Generation {
    let store = store
    return try await BlockingPool.shared.run { () throws(MartletError) in try store.generation(id) }
  }

  /// Of each the bytes on disk, without what it depends on; 0 where they cannot be told.
  func allocatedBytes(of ids: [GenerationID]) async -> [Int64] {
    let store = store
    return await BlockingPool.shared.run { () -> [Int64] in ids.map { (try? store.allocatedBytes(of: $0).own) ?? 0 } }
  }

  func chainLength(of id: GenerationID) async throws(MartletError) -> Int {
    let store = store
    return try await BlockingPool.shared.run { () throws(MartletError) in try store.chainLength(of: id) }
  }

  func compact(
    _ id: GenerationID, as new: GenerationID, keeping kept: Set<GenerationID>
  ) async throws(MartletError) -> Generation {
    let store = store
    return try await BlockingPool.shared.run { () throws(MartletError) in try store.compact(id, as: new, keeping: kept)
    }
  }

  /// No VMM writes to the generation's disk layer any more.
  func seal(_ id: GenerationID) async throws {
    try await parts.disks.seal(try await generation(id).diskPath)
  }

  // MARK: - Collecting

  /// Removes what nobody needs, if anything has changed since the last time.
  /// - Parameter roots: what the journal's rows need. It is asked after the held ones were noted, so that a generation
  ///   is always in one of both.
  func collectIfWanted(roots: @Sendable () async -> Set<GenerationID>) async {
    let wanted = state.withLock { state in
      defer { state.wantsCollection = false }
      return state.wantsCollection
    }
    guard wanted else { return }
    do {
      let store = store
      // What appears after this look is left alone.
      let layers = try Directories.names(in: store.diskLayersDirectory)
      let candidates = try await BlockingPool.shared.run { () throws(MartletError) in try store.identifiers() }
      let held = state.withLock { Set($0.held.keys) }
      let needed = await roots().union(held)
      let removed = try await BlockingPool.shared.run { () throws(MartletError) in
        try store.collectGarbage(roots: needed, drafts: held, among: candidates)
      }
      try await collect(layers, needed: needed)
      if !removed.isEmpty { logger.info("collected generations", metadata: ["count": "\(removed.count)"]) }
    } catch {
      logger.error("generations could not be collected", metadata: ["error": "\(error)"])
      collectSoon()
    }
  }

  /// Second names of disk layers whose generation is gone.
  private func collect(_ layers: [String], needed: Set<GenerationID>) async throws {
    let store = store
    try await BlockingPool.shared.run { () throws in
      let existing = try store.identifiers()
      for name in layers where name.hasSuffix(".qcow2") {
        guard let id = GenerationID(wire: "gen-\(name.dropLast(6))"), !existing.contains(id), !needed.contains(id)
        else { continue }
        unlink(store.diskLayersDirectory.appending(name).string)
      }
    }
  }
}
