import ControlPlane
import Foundation
import Logging
import Model
import Persistence
import Synchronization
import TestSupport

/// A clock that tests turn.
final class TestClock: Sendable {
  private let state = Mutex(Date(timeIntervalSince1970: 1_700_000_000))
  var now: Date { state.withLock { $0 } }
  func advance(by seconds: TimeInterval) { state.withLock { $0 += seconds } }
}

/// A control plane on a database of its own, with one simulated host and one team.
struct Plane {
  let database: any Database
  let host: SimulatedHost
  let clock: TestClock
  let control: ControlPlane
  let caller: Caller

  var service: SandboxService { control.sandboxes }
  var repository: SandboxRepository { SandboxRepository(database: database) }
  var snapshots: SnapshotService { control.snapshots }
  var snapshotRepository: SnapshotRepository { SnapshotRepository(database: database) }

  func status(_ id: SandboxID) async throws -> SandboxStatus? { try await repository.sandbox(id)?.status }

  func create(_ change: (inout NewSandbox) -> Void = { _ in }) async throws -> SandboxRecord {
    var new = NewSandbox()
    change(&new)
    return try await service.create(new, for: caller).record
  }

  /// A row as a crash would leave it.
  func leaveRow(
    _ status: SandboxStatus, onHost: Bool = true, _ change: (inout SandboxRecord) -> Void = { _ in }
  ) async throws -> SandboxRecord {
    let facts = SandboxFacts(hostID: onHost ? host.hostID : nil)
    var record = SandboxRecord(spec: SandboxSpec(teamID: caller.teamID), status: status, facts: facts, createdAt: clock.now)
    change(&record)
    let audit = AuditRecord(
      teamID: caller.teamID, actorType: "system", actorID: "test", action: "test", targetType: "sandbox", targetID: "x", outcome: "ok",
      source: nil, createdAt: clock.now)
    try await repository.insert(record, audit: audit)
    return record
  }

  /// Rounds of the monitor until `condition` holds, at most `rounds`.
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
  /// Cheap passwords and no limits.
  static var forTests: IdentityConfiguration {
    IdentityConfiguration(hasher: PasswordHasher(parameters: .init(passes: 1, memoryKiB: 64, lanes: 1)), rates: .none)
  }
}

/// - Parameter isDurable: false keeps the database in memory, for tests that write it thousands of times.
func withPlane<Value>(
  _ identity: IdentityConfiguration = .forTests, isDurable: Bool = true, otherHosts: [SimulatedHost] = [],
  _ body: (Plane) async throws -> Value
) async throws -> Value {
  let memory = URL(filePath: "/dev/shm", directoryHint: .isDirectory)
  let parent = isDurable ? FileManager.default.temporaryDirectory : memory
  let directory = parent.appendingPathComponent("martlet-\(UUID().uuidString)")
  try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
  defer { try? FileManager.default.removeItem(at: directory) }
  let database = try SQLiteDatabase(path: directory.appendingPathComponent("martlet.db").path)
  try await Migrator(database: database).migrateUp()
  let host = SimulatedHost()
  let clock = TestClock()
  var logger = Logger(label: "test")
  logger.logLevel = .critical
  let control = ControlPlane(
    database: database, hosts: FixedHosts([host] + otherHosts), identity: identity,
    surroundings: Surroundings(now: { clock.now }, logger: logger))
  let team = TeamRecord(name: "team", createdAt: clock.now)
  try await PeopleRepository(database: database).ensureTeam(team)
  let caller = Caller(principal: Principal(kind: .user(UserID()), teamID: team.id))
  let value = try await body(Plane(database: database, host: host, clock: clock, control: control, caller: caller))
  try await database.close()
  return value
}

/// The code of the `MartletError` that `work` throws.
func code(_ work: () async throws -> Void) async -> ErrorCode? {
  do {
    try await work()
    return nil
  } catch {
    return (error as? MartletError)?.code
  }
}

/// Waits until `condition` holds, ten seconds at most.
func eventually(_ condition: () async throws -> Bool) async throws -> Bool {
  for _ in 0..<2_000 {
    if try await condition() { return true }
    try await Task.sleep(for: .milliseconds(5))
  }
  return false
}
