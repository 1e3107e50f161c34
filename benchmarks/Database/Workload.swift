import Foundation
import Model
import Persistence

/// The measured operations, run alternately on both databases.
struct Workload {
  enum Operation: String, CaseIterable {
    case get
    /// A page of unfinished sandboxes.
    case list
    case listStopped = "list-stopped"
    case listByMetadata = "list-metadata"
    case audit
    /// All writes in the life of a sandbox.
    case create
  }

  /// The number of sandboxes that are listed and read; the same on the empty database, so that pages have the same
  /// length.
  static let alive = 200
  static let page = 50
  static let key = "bench"
  /// The age of these sandboxes in seconds: greater than that of the rows of `Filling`, so that queries must skip
  /// those.
  static let age: TimeInterval = 200_000

  let full: any Database
  let empty: any Database
  let team: TeamID

  static func prepare(_ database: any Database, _ team: TeamID) async throws {
    try await PeopleRepository(database: database).ensureTeam(TeamRecord(id: team, name: "measured", createdAt: Date()))
    let created = Date(timeIntervalSinceNow: -age)
    for status in [SandboxStatus.running, .stopped] {
      for _ in 0..<alive {
        let spec = SandboxSpec(teamID: team, metadata: [key: "1"])
        try await SandboxRepository(database: database).insert(
          SandboxRecord(spec: spec, status: status, createdAt: created), audit: entry(team, spec.id))
      }
    }
  }

  /// The median durations in microseconds.
  func medians(of operation: Operation) async throws -> (full: Double, empty: Double) {
    let ids = (try await identifiers(full), try await identifiers(empty))
    let rounds = operation == .create ? 150 : 400
    var times: (full: [Double], empty: [Double]) = ([], [])
    for round in 0..<(rounds + rounds / 10) {
      // After a commit a row is not returned from the cache without a query.
      for database in [full, empty] where operation == .get { try await database.write { _ in } }
      let onFull = try await time { try await perform(operation, full, ids.0[round % ids.0.count]) }
      let onEmpty = try await time { try await perform(operation, empty, ids.1[round % ids.1.count]) }
      // The first rounds are for warm-up.
      guard round >= rounds / 10 else { continue }
      times.full.append(onFull)
      times.empty.append(onEmpty)
    }
    return (times.full.sorted()[rounds / 2], times.empty.sorted()[rounds / 2])
  }

  private func identifiers(_ database: any Database) async throws -> [SandboxID] {
    let filter = SandboxFilter(metadata: [Self.key: "1"], limit: Self.alive)
    return try await SandboxRepository(database: database).list(filter, team: team).map(\.id)
  }

  private func perform(_ operation: Operation, _ database: any Database, _ id: SandboxID) async throws {
    let repository = SandboxRepository(database: database)
    switch operation {
    case .get:
      _ = try await repository.sandbox(id, team: team)
    case .list:
      _ = try await repository.list(SandboxFilter(limit: Self.page), team: team)
    case .listStopped:
      _ = try await repository.list(SandboxFilter(statuses: [.stopped], limit: Self.page), team: team)
    case .listByMetadata:
      _ = try await repository.list(SandboxFilter(metadata: [Self.key: "1"], limit: Self.page), team: team)
    case .audit:
      _ = try await AuditRepository(database: database).list(team: team, limit: Self.page)
    case .create:
      try await create(repository)
    }
  }

  private func create(_ repository: SandboxRepository) async throws {
    let spec = SandboxSpec(teamID: team)
    try await repository.insert(SandboxRecord(spec: spec, createdAt: Date()), audit: Self.entry(team, spec.id))
    for (from, to) in [
      (SandboxStatus.pending, SandboxStatus.starting), (.starting, .running), (.running, .destroying),
      (.destroying, .stopped),
    ] {
      _ = try await repository.transition(spec.id, from: from, to: to, at: Date(), audit: Self.entry(team, spec.id))
    }
  }

  private static func entry(_ team: TeamID, _ id: SandboxID) -> AuditRecord {
    AuditRecord(
      teamID: team, actorType: "system", actorID: "bench", action: "sandbox.create", targetType: "sandbox",
      targetID: id.wire,
      outcome: "ok",
      source: nil, createdAt: Date())
  }

  private func time(_ work: () async throws -> Void) async rethrows -> Double {
    let begin = ContinuousClock.now
    try await work()
    let elapsed = (ContinuousClock.now - begin).components
    return Double(elapsed.seconds) * 1e6 + Double(elapsed.attoseconds) / 1e12
  }
}
