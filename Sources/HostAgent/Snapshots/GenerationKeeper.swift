import Concurrency
import Disks
import Glibc
import LinuxSystem
import Logging
import Model
import Snapshots
import SystemPackage

/// Keeps every generation that is needed, and collects the others.
///
/// The journal lists what needs generations: sandboxes, microVMs, named snapshots, template snapshots. A generation
/// that has no journal entry yet is held in memory.
final class GenerationKeeper: Sendable {
  private struct State {
    var held: [GenerationID: Int] = [:]
    var needsCollection = true
    var changed: Set<SandboxID> = []
  }

  private let store: SnapshotStore
  private let logger: Logger
  private let state = Mutex(State())

  init(parts: HostParts, logger: Logger) {
    store = parts.snapshots
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
      if count == 1 { state.needsCollection = true }
    }
  }

  func withHold<Result>(
    on id: GenerationID, isolation: isolated (any Actor)? = #isolation, _ body: () async throws -> Result
  ) async rethrows -> Result {
    hold(id)
    defer { release(id) }
    return try await body()
  }

  func requestCollection() {
    state.withLock { $0.needsCollection = true }
  }

  /// Records that a sandbox has a new generation, whose chain may need compaction.
  func changed(_ id: SandboxID) {
    state.withLock { state in
      state.needsCollection = true
      state.changed.insert(id)
    }
  }

  /// Returns the sandboxes with a new generation since the last call.
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

  /// Bytes on disk of each generation alone; 0 where they cannot be determined.
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

  // MARK: - Collecting

  /// Removes unneeded generations, if anything has changed since the last collection.
  /// - Parameter roots: the generations that journal entries need. It is called after the held generations were read,
  ///   so that each needed generation is in one of the two sets.
  func collectIfNeeded(roots: @Sendable () async -> Set<GenerationID>) async {
    let wanted = state.withLock { state in
      defer { state.needsCollection = false }
      return state.needsCollection
    }
    guard wanted else { return }
    do {
      let store = store
      // What appears after this look is left alone.
      let layers = try Directories.names(in: store.namedLayersDirectory)
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
      requestCollection()
    }
  }

  /// Second names of disk layers, which earlier versions made, whose generation is gone.
  private func collect(_ layers: [String], needed: Set<GenerationID>) async throws {
    let store = store
    try await BlockingPool.shared.run { () throws in
      let existing = try store.identifiers()
      for name in layers where name.hasSuffix(".qcow2") {
        guard let id = GenerationID(wire: "gen-\(name.dropLast(6))"), !existing.contains(id), !needed.contains(id)
        else { continue }
        unlink(store.namedLayersDirectory.appending(name).string)
      }
    }
  }
}
