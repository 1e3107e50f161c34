import Concurrency
import ControlPlane
import Foundation
import HostAPI
import Logging
import Model
import Persistence
import TestSupport
import Testing

/// Hosts that are registered in the database.
@Suite(.serialized) struct RegisteredHostsTests {
  /// Creates clients by address, and counts them.
  private final class Network: Sendable {
    private let state = Mutex((hosts: [String: SimulatedHost](), made: [String]()))

    var made: [String] { state.withLock { $0.made } }

    func add(_ host: SimulatedHost, at address: String) { state.withLock { $0.hosts[address] = host } }

    func connect(_ record: HostRecord) -> (any HostClient)? {
      state.withLock { state in
        state.made.append(record.address)
        return state.hosts[record.address]
      }
    }
  }

  private struct Stage {
    let own = SimulatedHost()
    let other = SimulatedHost()
    let network = Network()
    let clock = TestClock()
    let repository: HostRepository
    let directory: RegisteredHosts
    let dependencies: Dependencies

    init(_ database: any Database) {
      let clock = clock
      var logger = Logger(label: "test")
      logger.logLevel = .critical
      dependencies = Dependencies(now: { clock.now }, logger: logger)
      repository = HostRepository(database: database)
      let network = network
      directory = RegisteredHosts(own: own, repository: repository, dependencies: dependencies) { network.connect($0) }
    }

    func record(_ address: String, secret: UInt8 = 1) -> HostRecord {
      HostRecord(
        id: other.hostID, address: address, secret: [UInt8](repeating: secret, count: 32), registeredAt: clock.now)
    }

    func heartbeat(_ record: HostRecord) -> HostHeartbeat {
      HostHeartbeat(of: other, repository: repository, dependencies: dependencies) { record }
    }
  }

  @Test(
    "the own host is there without the database; others as soon as they are registered, where they are now",
    arguments: SQLDialect.allCases)
  func moves(dialect: SQLDialect) async throws {
    try await withTestDatabase(dialect) { database, _ async throws -> Void in
      let stage = Stage(database)
      stage.network.add(stage.other, at: "a:1")
      stage.network.add(stage.other, at: "a:2")
      #expect(await stage.directory.hosts().map(\.hostID) == [stage.own.hostID])
      #expect(await stage.directory.host(stage.other.hostID) == nil)
      try await stage.repository.register(stage.record("a:1"))
      for _ in 0..<3 { #expect(await stage.directory.host(stage.other.hostID)?.hostID == stage.other.hostID) }
      #expect(await stage.directory.hosts().count == 2)
      #expect(stage.network.made == ["a:1"])
      // Restarted: with another address, then with another secret.
      try await stage.repository.register(stage.record("a:2"))
      _ = await stage.directory.host(stage.other.hostID)
      try await stage.repository.register(stage.record("a:2", secret: 2))
      for _ in 0..<3 { _ = await stage.directory.hosts() }
      #expect(stage.network.made == ["a:1", "a:2", "a:2"])
      try await stage.repository.forget(stage.other.hostID, secret: stage.record("a:2", secret: 2).secret)
      #expect(await stage.directory.host(stage.other.hostID) == nil)
      #expect(await stage.directory.hosts().count == 1)
    }
  }

  @Test("a silent host gets no new sandboxes, and is still asked for its own", arguments: SQLDialect.allCases)
  func silent(dialect: SQLDialect) async throws {
    try await withTestDatabase(dialect) { database, _ async throws -> Void in
      let stage = Stage(database)
      stage.network.add(stage.other, at: "a:1")
      let record = stage.record("a:1")
      let heartbeat = stage.heartbeat(record)
      #expect(await heartbeat.beat(record))
      #expect(await stage.directory.placeableHosts().count == 2)
      stage.clock.advance(by: Monitor.silenceLimit + 1)
      #expect(await stage.directory.placeableHosts().map(\.hostID) == [stage.own.hostID])
      #expect(await stage.directory.hosts().count == 2)
      #expect(await stage.directory.host(stage.other.hostID) != nil)
      #expect(await heartbeat.beat(record))
      #expect(await stage.directory.placeableHosts().count == 2)
    }
  }

  @Test("a host that stops is forgotten only when it holds nothing that a row may name", arguments: SQLDialect.allCases)
  func leaving(dialect: SQLDialect) async throws {
    try await withTestDatabase(dialect) { database, _ async throws -> Void in
      let stage = Stage(database)
      let (record, id) = (stage.record("a:1"), SandboxID())
      let heartbeat = stage.heartbeat(record)
      #expect(await heartbeat.beat(record))
      await stage.other.set(id, status: .paused)
      await heartbeat.leave(record)
      #expect(try await stage.repository.all().count == 1)
      await stage.other.set(id, status: nil)
      await stage.other.setSnapshot(.base, team: TeamID(), files: [:])
      await heartbeat.leave(record)
      #expect(try await stage.repository.all().count == 1)
      for name in await stage.other.snapshotNames {
        for key in await stage.other.snapshots.keys where key.name.value == name {
          await stage.other.setSnapshot(key.name, team: key.team, files: nil)
        }
      }
      await heartbeat.leave(record)
      #expect(try await stage.repository.all().isEmpty)
    }
  }

  @Test("a row that is gone, or another's, is written again with the next sign of life", arguments: SQLDialect.allCases)
  func rewritten(dialect: SQLDialect) async throws {
    try await withTestDatabase(dialect) { database, _ async throws -> Void in
      let stage = Stage(database)
      let record = stage.record("a:1")
      try await stage.repository.register(stage.record("a:9", secret: 9))
      stage.clock.advance(by: 10)
      #expect(await stage.heartbeat(record).beat(record))
      let row = try #require(try await stage.repository.host(record.id))
      #expect(row.address == "a:1" && row.secret == record.secret && row.lastHeartbeat == stage.clock.now)
    }
  }

  @Test("while the database is away, hosts are where they were")
  func outage() async throws {
    try await withTestDatabase(.sqlite) { database, store async throws -> Void in
      let connection = try store.connect()
      let stage = Stage(connection)
      stage.network.add(stage.other, at: "a:1")
      try await stage.repository.register(stage.record("a:1"))
      #expect(await stage.directory.hosts().count == 2)
      try await connection.close()
      #expect(await stage.directory.hosts().count == 2)
      #expect(await stage.directory.host(stage.other.hostID) != nil)
      #expect(await stage.directory.host(HostID()) == nil)
      let record = stage.record("a:1")
      #expect(await !stage.heartbeat(record).beat(record))
    }
  }
}
