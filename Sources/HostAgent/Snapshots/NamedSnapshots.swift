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
  /// Snapshots that have lost their names until they are released.
  private var quarantined: [GenerationID: NamedSnapshotEntry] = [:]
  /// Names for which a snapshot is being made.
  private var reserved: Set<Key> = []

  init(journal: Journal, generations: GenerationKeeper, observer: StepObserver) {
    self.journal = journal
    self.generations = generations
    self.observer = observer
  }

  var roots: Set<GenerationID> { Set(entries.values.map(\.generation)).union(quarantined.keys) }

  func load() async throws {
    for entry in try await journal.namedSnapshots() { entries[Key(team: entry.teamID, name: entry.name)] = entry }
    for entry in try await journal.quarantinedSnapshots() { quarantined[entry.generation] = entry }
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
    return await describe(entry)
  }

  /// Deletes a name. Idempotent. Sandboxes created from it keep the generations that they need.
  /// - Parameter createdAt: when the snapshot was made; another one with the name is kept. Nil deletes whichever has the
  ///   name.
  func delete(_ name: SafeName, team: TeamID, createdAt: Date?) async throws {
    let key = Key(team: team, name: name)
    guard let entry = entries[key] else { return }
    if let createdAt, !SnapshotMoment.isSame(createdAt, entry.createdAt) { return }
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

  // MARK: Quarantine

  /// Idempotent; a snapshot that was not made at `createdAt` stays.
  func quarantine(_ name: SafeName, team: TeamID, createdAt: Date) async throws {
    let key = Key(team: team, name: name)
    guard !reserved.contains(key), var entry = entries[key], SnapshotMoment.isSame(createdAt, entry.createdAt) else {
      return
    }
    reserved.insert(key)
    defer { reserved.remove(key) }
    entry.quarantinedAt = Date()
    try await observer.observe(.beforeSaving(.commit))
    try await journal.quarantine(entry)
    entries[key] = nil
    quarantined[entry.generation] = entry
    try await observer.observe(.afterSaving(.commit))
  }

  /// - Throws: `not_found`; `already_exists` when the team has a snapshot of this name.
  func release(_ id: GenerationID, as name: SafeName, team: TeamID) async throws -> HostTemplate {
    let key = Key(team: team, name: name)
    if let entry = entries[key], entry.generation == id { return await describe(entry) }
    guard var entry = quarantined[id] else {
      throw MartletError(.notFound, "snapshot \(id) is not in quarantine on this host")
    }
    guard entries[key] == nil, !reserved.contains(key) else {
      throw MartletError(.alreadyExists, "snapshot \(name) exists already; choose another name")
    }
    reserved.insert(key)
    defer { reserved.remove(key) }
    entry.teamID = team
    entry.name = name
    entry.quarantinedAt = nil
    try await observer.observe(.beforeSaving(.commit))
    try await journal.release(entry)
    quarantined[id] = nil
    entries[key] = entry
    try await observer.observe(.afterSaving(.commit))
    return await describe(entry)
  }

  /// Idempotent.
  func removeQuarantined(_ id: GenerationID) async throws {
    guard quarantined[id] != nil else { return }
    try await journal.removeQuarantinedSnapshot(id)
    quarantined[id] = nil
    generations.requestCollection()
  }

  func quarantinedItems() async -> [QuarantinedItem] {
    let entries = Array(quarantined.values)
    let sizes = await generations.allocatedBytes(of: entries.map(\.generation))
    return zip(entries, sizes).map { entry, size in
      QuarantinedItem(
        kind: .snapshot(entry.generation, template: Self.template(entry, sizeBytes: size)),
        quarantinedAt: entry.quarantinedAt ?? entry.createdAt, createdAt: entry.createdAt, sizeBytes: size)
    }
  }

  private func describe(_ entry: NamedSnapshotEntry) async -> HostTemplate {
    Self.template(entry, sizeBytes: await generations.allocatedBytes(of: [entry.generation]).first ?? 0)
  }

  private static func template(_ entry: NamedSnapshotEntry, sizeBytes: Int64) -> HostTemplate {
    HostTemplate(
      name: entry.name, teamID: entry.teamID, kind: .snapshot, shape: entry.shape, sizeBytes: sizeBytes,
      createdAt: entry.createdAt)
  }
}
