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
  private final class ClientFactory: Sendable {
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

  private struct HostsFixture {
    let own = SimulatedHost()
    let other = SimulatedHost()
    let clients = ClientFactory()
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
      let clients = clients
      directory = RegisteredHosts(own: own, repository: repository, dependencies: dependencies) { clients.connect($0) }
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
    "the own host needs no database row; others are found once registered, at their present address",
    arguments: SQLDialect.allCases)
  func moves(dialect: SQLDialect) async throws {
    try await withTestDatabase(dialect) { database, _ async throws -> Void in
      let fixture = HostsFixture(database)
      fixture.clients.add(fixture.other, at: "a:1")
      fixture.clients.add(fixture.other, at: "a:2")
      #expect(await fixture.directory.hosts().map(\.hostID) == [fixture.own.hostID])
      #expect(await fixture.directory.host(fixture.other.hostID) == nil)
      try await fixture.repository.register(fixture.record("a:1"))
      for _ in 0..<3 { #expect(await fixture.directory.host(fixture.other.hostID)?.hostID == fixture.other.hostID) }
      #expect(await fixture.directory.hosts().count == 2)
      #expect(fixture.clients.made == ["a:1"])
      // Restarted: with another address, then with another secret.
      try await fixture.repository.register(fixture.record("a:2"))
      _ = await fixture.directory.host(fixture.other.hostID)
      try await fixture.repository.register(fixture.record("a:2", secret: 2))
      for _ in 0..<3 { _ = await fixture.directory.hosts() }
      #expect(fixture.clients.made == ["a:1", "a:2", "a:2"])
      try await fixture.repository.delete(fixture.other.hostID, secret: fixture.record("a:2", secret: 2).secret)
      #expect(await fixture.directory.host(fixture.other.hostID) == nil)
      #expect(await fixture.directory.hosts().count == 1)
    }
  }

  @Test("an unresponsive host gets no new sandboxes, and is still called for its own", arguments: SQLDialect.allCases)
  func silent(dialect: SQLDialect) async throws {
    try await withTestDatabase(dialect) { database, _ async throws -> Void in
      let fixture = HostsFixture(database)
      fixture.clients.add(fixture.other, at: "a:1")
      let record = fixture.record("a:1")
      let heartbeat = fixture.heartbeat(record)
      #expect(await heartbeat.beat(record))
      #expect(await fixture.directory.placeableHosts().count == 2)
      fixture.clock.advance(by: Monitor.silenceLimit + 1)
      #expect(await fixture.directory.placeableHosts().map(\.hostID) == [fixture.own.hostID])
      #expect(await fixture.directory.hosts().count == 2)
      #expect(await fixture.directory.host(fixture.other.hostID) != nil)
      #expect(await heartbeat.beat(record))
      #expect(await fixture.directory.placeableHosts().count == 2)
    }
  }

  @Test("a host that stops is deregistered only if it holds no sandboxes and snapshots", arguments: SQLDialect.allCases)
  func leaving(dialect: SQLDialect) async throws {
    try await withTestDatabase(dialect) { database, _ async throws -> Void in
      let fixture = HostsFixture(database)
      let (record, id) = (fixture.record("a:1"), SandboxID())
      let heartbeat = fixture.heartbeat(record)
      #expect(await heartbeat.beat(record))
      await fixture.other.set(id, status: .paused)
      await heartbeat.deregister(record)
      #expect(try await fixture.repository.all().count == 1)
      await fixture.other.set(id, status: nil)
      await fixture.other.setSnapshot(.base, team: TeamID(), files: [:])
      await heartbeat.deregister(record)
      #expect(try await fixture.repository.all().count == 1)
      for name in await fixture.other.snapshotNames {
        for key in await fixture.other.snapshots.keys where key.name.value == name {
          await fixture.other.setSnapshot(key.name, team: key.team, files: nil)
        }
      }
      await heartbeat.deregister(record)
      #expect(try await fixture.repository.all().isEmpty)
    }
  }

  @Test("a missing or replaced row is written again with the next heartbeat", arguments: SQLDialect.allCases)
  func rewritten(dialect: SQLDialect) async throws {
    try await withTestDatabase(dialect) { database, _ async throws -> Void in
      let fixture = HostsFixture(database)
      let record = fixture.record("a:1")
      try await fixture.repository.register(fixture.record("a:9", secret: 9))
      fixture.clock.advance(by: 10)
      #expect(await fixture.heartbeat(record).beat(record))
      let row = try #require(try await fixture.repository.host(record.id))
      #expect(row.address == "a:1" && row.secret == record.secret && row.lastHeartbeat == fixture.clock.now)
    }
  }

  @Test("while the database is unavailable, the last known hosts are used")
  func outage() async throws {
    try await withTestDatabase(.sqlite) { database, store async throws -> Void in
      let connection = try store.connect()
      let fixture = HostsFixture(connection)
      fixture.clients.add(fixture.other, at: "a:1")
      try await fixture.repository.register(fixture.record("a:1"))
      #expect(await fixture.directory.hosts().count == 2)
      try await connection.close()
      #expect(await fixture.directory.hosts().count == 2)
      #expect(await fixture.directory.host(fixture.other.hostID) != nil)
      #expect(await fixture.directory.host(HostID()) == nil)
      let record = fixture.record("a:1")
      #expect(await !fixture.heartbeat(record).beat(record))
    }
  }
}
