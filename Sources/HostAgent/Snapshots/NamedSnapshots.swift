import Foundation
import HostAPI
import Model

/// The named snapshots of all teams.
actor NamedSnapshots {
  private struct Key: Hashable {
    let team: TeamID
    let name: SafeName
  }

  private let journal: Journal
  private let generations: GenerationKeeper
  private let observer: StepObserver
  private var entries: [Key: NamedSnapshotEntry] = [:]
  /// Names for which a snapshot is being made.
  private var reserved: Set<Key> = []

  init(journal: Journal, generations: GenerationKeeper, observer: StepObserver) {
    self.journal = journal
    self.generations = generations
    self.observer = observer
  }

  var roots: Set<GenerationID> { Set(entries.values.map(\.generation)) }

  func load() async throws {
    for entry in try await journal.namedSnapshots() { entries[Key(team: entry.teamID, name: entry.name)] = entry }
  }

  /// Returns the checkpoint behind a name: the team's own, else the platform's. Its generation is held; the caller
  /// releases it.
  func held(_ name: SafeName, team: TeamID) -> FrozenSandbox? {
    guard let entry = entries[Key(team: team, name: name)] ?? entries[Key(team: .platform, name: name)] else {
      return nil
    }
    generations.hold(entry.generation)
    return FrozenSandbox(
      generation: entry.generation, shape: entry.shape, accessToken: entry.accessToken, environment: entry.environment)
  }

  /// Gives the checkpoint that `freeze` makes a name. A second request for the same name fails at once.
  func create(
    _ request: SnapshotRequest, _ freeze: @Sendable () async throws -> FrozenSandbox
  ) async throws -> HostTemplate {
    let key = Key(team: request.teamID, name: request.name)
    guard !reserved.contains(key), request.overwrites || entries[key] == nil else {
      throw MartletError(
        .alreadyExists, "snapshot \(request.name) exists already; choose another name, or overwrite it")
    }
    reserved.insert(key)
    defer { reserved.remove(key) }
    let frozen = try await freeze()
    defer { generations.release(frozen.generation) }
    let entry = NamedSnapshotEntry(
      teamID: request.teamID, name: request.name, generation: frozen.generation, shape: frozen.shape,
      accessToken: frozen.accessToken,
      environment: frozen.environment, createdAt: Date())
    try await observer.observe(.beforeSaving(.commit))
    try await journal.upsert(entry)
    entries[key] = entry
    generations.requestCollection()
    try await observer.observe(.afterSaving(.commit))
    return Self.template(entry, sizeBytes: await generations.allocatedBytes(of: [entry.generation]).first ?? 0)
  }

  /// Deletes a name. Idempotent. Sandboxes created from it keep the generations that they need.
  func delete(_ name: SafeName, team: TeamID) async throws {
    let key = Key(team: team, name: name)
    guard entries[key] != nil else { return }
    try await journal.removeNamedSnapshot(name, team: team)
    entries[key] = nil
    generations.requestCollection()
  }

  func templates() async -> [HostTemplate] {
    let entries = Array(entries.values)
    let sizes = await generations.allocatedBytes(of: entries.map(\.generation))
    return zip(entries, sizes).map { Self.template($0, sizeBytes: $1) }.sorted {
      ($0.name, $0.teamID) < ($1.name, $1.teamID)
    }
  }

  private static func template(_ entry: NamedSnapshotEntry, sizeBytes: Int64) -> HostTemplate {
    HostTemplate(
      name: entry.name, teamID: entry.teamID, kind: .snapshot, shape: entry.shape, sizeBytes: sizeBytes,
      createdAt: entry.createdAt)
  }
}
