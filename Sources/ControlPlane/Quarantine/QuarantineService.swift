import Concurrency
package import Foundation
package import HostAPI
import Logging
package import Model
package import Persistence

/// What hosts hold and the database does not know: administrators list it, give it to a team, or destroy it.
package struct QuarantineService: Sendable {
  /// An item, and what the database says about it.
  package struct Item: Sendable {
    package var hostID: HostID
    package var item: QuarantinedItem
    /// Nil when the team that the journal names does not exist.
    package var teamName: String?
    /// When it will be removed, unless it is adopted; nil: never.
    package var endsAt: Date?
  }

  /// What became of an adopted item.
  package enum Adopted: Sendable {
    case sandbox(SandboxRecord)
    case snapshot(SnapshotRecord)
  }

  let snapshots: SnapshotService
  let teams: TeamRepository
  let period: QuarantinePeriod

  private var sandboxes: SandboxService { snapshots.sandboxes }
  private var now: Date { sandboxes.now }
  private static var silent: MartletError { MartletError(.hostUnavailable, "the host does not answer") }

  // MARK: Reading

  /// Everything in quarantine on hosts that answer, the oldest first.
  package func list(for caller: Caller) async throws -> [Item] {
    try caller.principal.requireAdmin()
    var names: [TeamID: String] = [:]
    var items: [Item] = []
    for (host, item) in await found() {
      if names[item.teamID] == nil { names[item.teamID] = try await teams.team(item.teamID)?.name }
      items.append(
        Item(
          hostID: host.hostID, item: item, teamName: names[item.teamID], endsAt: period.end(of: item.quarantinedAt)))
    }
    return items.sorted { ($0.item.quarantinedAt, $0.item.id) < ($1.item.quarantinedAt, $1.item.id) }
  }

  private func found() async -> [(host: any HostClient, item: QuarantinedItem)] {
    let hosts = await sandboxes.directory.hosts()
    return await withTaskGroup { group in
      for (index, host) in hosts.enumerated() {
        group.addTask {
          let found = try? await waitAtMost(Placement.listDeadline, throwing: Self.silent) {
            try await host.quarantine()
          }
          return (index, found?.items ?? [])
        }
      }
      return await group.reduce(into: []) { all, answer in
        all += answer.1.map { (hosts[answer.0], $0) }
      }
    }
  }

  /// - Throws: `not_found`.
  private func find(_ id: String) async throws -> (host: any HostClient, item: QuarantinedItem) {
    guard let found = await found().first(where: { $0.item.id == id }) else {
      throw MartletError(.notFound, "nothing named \(id) is in quarantine on a host that answers")
    }
    return found
  }

  // MARK: Adopting

  /// Gives an item to the team that the journal names, or to `team` when that one does not exist. A sandbox keeps its id
  /// and can be resumed like any paused one.
  /// - Parameter name: another name for a snapshot whose own is taken.
  /// - Throws: `not_found`; `invalid_request` for a team that is not needed, or needed and not given; `already_exists`
  ///   for a name that is taken; `invalid_state` for a sandbox whose virtual machine ended.
  package func adopt(
    _ id: String, team: TeamID? = nil, name: SafeName? = nil, for caller: Caller
  ) async throws -> Adopted {
    try caller.principal.requireAdmin()
    let (host, item) = try await find(id)
    let team = try await owner(of: item, given: team)
    switch item.kind {
    case .sandbox(let spec, let state):
      guard name == nil else {
        throw MartletError(.invalidRequest, "a sandbox has no name; leave `name` out")
      }
      return .sandbox(try await adopt(item, spec, state, on: host, by: team, for: caller))
    case .snapshot(let generation, let template):
      return .snapshot(
        try await adopt(generation, template, as: name ?? template.name, on: host, by: team, for: caller))
    }
  }

  private func owner(of item: QuarantinedItem, given: TeamID?) async throws -> TeamID {
    if try await teams.team(item.teamID) != nil {
      guard given == nil || given == item.teamID else {
        throw MartletError(
          .invalidRequest, "\(item.id) belongs to \(item.teamID), which exists; leave team_id out to adopt it there")
      }
      return item.teamID
    }
    guard let given else {
      throw MartletError(
        .invalidRequest, "\(item.id) belongs to \(item.teamID), which does not exist; say with team_id whose it is now")
    }
    guard try await teams.team(given) != nil else { throw MartletError.teamNotFound(given) }
    return given
  }

  private func adopt(
    _ item: QuarantinedItem, _ spec: SandboxSpec, _ state: HostSandbox, on host: any HostClient, by team: TeamID,
    for caller: Caller
  ) async throws -> SandboxRecord {
    guard [.paused, .running, .pausing].contains(state.status) else {
      throw MartletError(
        .invalidState,
        "sandbox \(spec.id) is \(state.status.rawValue) (\(state.reason ?? "no reason is known")); it cannot be resumed, "
          + "only be destroyed")
    }
    var owned = spec
    owned.teamID = team
    let record = SandboxRecord(
      spec: owned, status: .paused, facts: state.facts(on: host.hostID, keeping: SandboxFacts()),
      createdAt: item.createdAt, lastActiveAt: state.lastActiveAt, lastUpdated: now)
    let audit = caller.acting(in: team).audit("quarantine.adopt", spec.id, outcome: "ok", at: now)
    return try await sandboxes.work.run(for: spec.id) {
      do {
        try await sandboxes.repository.adopt(record, audit: audit)
      } catch let refusal as SandboxRepository.AdoptionRefusal {
        throw Self.error(refusal, spec.id, team)
      }
      // Should the host not hear of it, the monitor tells it: a row knows the sandbox now.
      _ = try? await waitAtMost(Placement.listDeadline, throwing: Self.silent) {
        try await host.releaseSandbox(spec.id, to: team)
      }
      return try await sandboxes.repository.sandbox(spec.id) ?? record
    }
  }

  private static func error(
    _ refusal: SandboxRepository.AdoptionRefusal, _ id: SandboxID, _ team: TeamID
  ) -> MartletError {
    switch refusal {
    case .teamIsGone: MartletError.teamNotFound(team)
    case .isKnown: MartletError(.alreadyExists, "sandbox \(id) is known; it leaves the quarantine by itself")
    case .isDeleted: MartletError(.notFound, "sandbox \(id) was deleted; its host is about to remove it")
    }
  }

  private func adopt(
    _ id: GenerationID, _ template: HostTemplate, as name: SafeName, on host: any HostClient, by team: TeamID,
    for caller: Caller
  ) async throws -> SnapshotRecord {
    let caller = caller.acting(in: team)
    guard try await snapshots.sharedTemplate(name, for: caller) == nil else {
      throw MartletError(.alreadyExists, "a template named \(name) exists; give the snapshot another name")
    }
    return try await sandboxes.work.run(for: [.snapshot(team, name)]) {
      let shape = template.shape ?? SandboxShape(vcpus: 1, memoryMiB: 512, diskSizeMiB: 5_120)
      let reserved = SnapshotRecord(
        teamID: team, name: name, vcpus: shape.vcpus, memoryMiB: shape.memoryMiB, diskSizeMiB: shape.diskSizeMiB,
        hostID: host.hostID, createdAt: now)
      guard try await sandboxes.quotas.checking({ try await snapshots.repository.insert(reserved) }) else {
        throw MartletError(
          .alreadyExists, "\(team) has a snapshot named \(name); give the adopted one another name with `name`")
      }
      do {
        let released = try await waitAtMost(SnapshotService.deleteDeadline, throwing: Self.silent) {
          try await host.releaseSnapshot(id, as: name, team: team)
        }
        let next = reserved.published(released, on: host.hostID, at: now)
        let audit = caller.audit("quarantine.adopt", of: "snapshot", name.value, outcome: "ok", at: now)
        _ = try await snapshots.repository.replace(reserved, with: next, audit: audit)
        return try await snapshots.repository.snapshot(name, team: team) ?? next
      } catch let error as MartletError where error.isDefinite {
        _ = try? await snapshots.repository.remove(reserved)
        throw error
      }
    }
  }

  // MARK: Destroying

  /// Destroys an item by hand.
  /// - Throws: `not_found`; what the host says: the tombstone is written then, and the monitor goes on.
  package func destroy(_ id: String, for caller: Caller) async throws {
    try caller.principal.requireAdmin()
    let (host, item) = try await find(id)
    try await remove(item, on: host, action: "quarantine.destroy", for: caller)
  }

  /// Writes the tombstone and the audit row, and then has the host remove what it holds.
  func remove(_ item: QuarantinedItem, on host: any HostClient, action: String, for caller: Caller) async throws {
    // The audit log belongs to teams that exist.
    let team = try await teams.team(item.teamID)?.id ?? .platform
    let caller = caller.acting(in: team)
    switch item.kind {
    case .sandbox(let spec, _):
      if let row = try await sandboxes.repository.sandbox(spec.id), row.status.holdsResources {
        throw MartletError(.invalidState, "sandbox \(spec.id) is known; destroy it like any other")
      }
      let audit = caller.audit(action, spec.id, outcome: "ok", at: now)
      try await sandboxes.tombstones.bury(spec.id, team: item.teamID, at: now, audit: audit)
      try await waitAtMost(SandboxService.destroyDeadline, throwing: Self.silent) {
        try await host.destroySandbox(spec.id)
      }
    case .snapshot(let generation, let template):
      let audit = caller.audit(action, of: "snapshot", template.name.value, outcome: "ok", at: now)
      try await sandboxes.tombstones.bury(
        template.name, team: template.teamID, createdAt: template.createdAt, at: now, audit: audit)
      try await waitAtMost(SnapshotService.deleteDeadline, throwing: Self.silent) {
        try await host.removeQuarantinedSnapshot(generation)
      }
    }
  }
}
