import Concurrency
import ControlPlane
import Foundation
import Logging
import Model
import Persistence
import TestSupport

/// A clock that tests set.
final class TestClock: Sendable {
  private let state = Mutex(Date(timeIntervalSince1970: 1_700_000_000))
  var now: Date { state.withLock { $0 } }
  func advance(by seconds: TimeInterval) { state.withLock { $0 += seconds } }
}

/// A control plane on a new database, with one simulated host and one team.
struct Plane {
  let database: any Database
  let host: SimulatedHost
  let clock: TestClock
  let control: ControlPlane
  let caller: Caller

  /// Creates a further control plane on the same database and host.
  /// - Parameter directory: how the control plane finds its hosts; nil: its hosts are in its process.
  init(
    database: any Database, host: SimulatedHost, otherHosts: [SimulatedHost] = [],
    directory: (any HostDirectory)? = nil, clock: TestClock,
    team: TeamID, identity: IdentityConfiguration = .forTests
  ) {
    var logger = Logger(label: "test")
    logger.logLevel = .critical
    self.database = database
    self.host = host
    self.clock = clock
    control = ControlPlane(
      database: database, hosts: directory ?? FixedHosts([host] + otherHosts), identity: identity,
      dependencies: Dependencies(now: { clock.now }, logger: logger))
    caller = Caller(principal: Principal(kind: .user(UserID()), teamID: team))
  }

  var service: SandboxService { control.sandboxes }
  var repository: SandboxRepository { SandboxRepository(database: database) }
  var snapshots: SnapshotService { control.snapshots }
  var snapshotRepository: SnapshotRepository { SnapshotRepository(database: database) }

  var tombstones: TombstoneRepository { TombstoneRepository(database: database) }

  /// The caller as an administrator of the platform.
  var administrator: Caller {
    var caller = caller
    caller.principal.isAdmin = true
    return caller
  }

  func status(_ id: SandboxID) async throws -> SandboxStatus? { try await repository.sandbox(id)?.status }

  func create(_ change: (inout NewSandbox) -> Void = { _ in }) async throws -> SandboxRecord {
    var new = NewSandbox()
    change(&new)
    return try await service.create(new, for: caller).record
  }

  /// Determines the leader and the connected control planes.
  func settle() async {
    guard database.dialect.isShared else { return }
    _ = await control.leadership.isLeader()
    clock.advance(by: Leadership.absence + 1)
    _ = await control.leadership.isLeader()
  }

  /// Inserts a row as a crash would leave it.
  func leaveRow(
    _ status: SandboxStatus, onHost: Bool = true, _ change: (inout SandboxRecord) -> Void = { _ in }
  ) async throws -> SandboxRecord {
    let facts = SandboxFacts(hostID: onHost ? host.hostID : nil)
    var record = SandboxRecord(
      spec: SandboxSpec(teamID: caller.teamID), status: status, facts: facts, createdAt: clock.now)
    change(&record)
    let audit = AuditRecord(
      teamID: caller.teamID, actorType: "system", actorID: "test", action: "test", targetType: "sandbox", targetID: "x",
      outcome: "ok",
      source: nil, createdAt: clock.now)
    try await repository.insert(record, audit: audit)
    return record
  }

  /// Runs rounds of the monitor until `condition` holds, at most `rounds`.
  func reconcile(rounds: Int = 20, until condition: () async throws -> Bool) async throws -> Bool {
    for _ in 0..<rounds {
      await control.monitor.tick()
      for _ in 0..<50 {
        if try await condition() { return true }
        try await Task.sleep(for: .milliseconds(5))
      }
    }
    return try await condition()
  }
}

extension IdentityConfiguration {
  /// Fast password hashes and no rate limits.
  static var forTests: IdentityConfiguration {
    IdentityConfiguration(hasher: PasswordHasher(parameters: .init(passes: 1, memoryKiB: 64, lanes: 1)), rates: .none)
  }
}

/// Runs `body` with a control plane that is the only one on its database.
func withPlane<Value>(
  _ dialect: SQLDialect = .sqlite, identity: IdentityConfiguration = .forTests,
  otherHosts: [SimulatedHost] = [], _ body: (Plane) async throws -> Value
) async throws -> Value {
  try await withTestDatabase(dialect) { database, _ in
    let clock = TestClock()
    let team = TeamRecord(name: "team", createdAt: clock.now)
    try await PeopleRepository(database: database).ensureTeam(team)
    let host = SimulatedHost()
    return try await HostLink.connect([host] + otherHosts) { clients in
      let plane = Plane(
        database: database, host: host, otherHosts: otherHosts, directory: FixedHosts(clients), clock: clock,
        team: team.id,
        identity: identity)
      await plane.settle()
      return try await body(plane)
    }
  }
}

/// Runs `body` with two control planes on one PostgreSQL database and one host; the first is the leader.
func withPlanes(_ body: (_ leader: Plane, _ other: Plane) async throws -> Void) async throws {
  try await withTestDatabase(.postgresql) { database, store async throws -> Void in
    let second = try store.connect()
    let (host, clock) = (SimulatedHost(), TestClock())
    let team = TeamRecord(name: "team", createdAt: clock.now)
    try await PeopleRepository(database: database).ensureTeam(team)
    let leader = Plane(database: database, host: host, clock: clock, team: team.id)
    let other = Plane(database: second, host: host, clock: clock, team: team.id)
    await leader.settle()
    await other.settle()
    await leader.settle()
    do {
      try await body(leader, other)
    } catch {
      try await second.close()
      throw error
    }
    try await second.close()
  }
}

/// The error code that a client gets for the error that `work` throws.
func code(_ work: () async throws -> Void) async -> ErrorCode? {
  do {
    try await work()
    return nil
  } catch {
    return MartletError.wrapping(error).code
  }
}

/// Waits until `condition` holds, for at most ten seconds on an idle machine.
func eventually(_ condition: () async throws -> Bool) async throws -> Bool {
  try await Patience.waiting(for: .seconds(10), every: .milliseconds(5), until: condition)
}
