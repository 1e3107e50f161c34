import ControlPlane
import Foundation
import HostInterface
import Model
import Persistence
import TestSupport
import Testing

/// Two control planes on one PostgreSQL.
@Suite(.serialized) struct SharedDatabaseTests {
  private func withPlanes(_ body: (_ leader: Plane, _ other: Plane) async throws -> Void) async throws {
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

  @Test("background work is done once, and by the other one when the leader is gone")
  func once() async throws {
    try await withPlanes { leader, other in
      let record = try await leader.leaveRow(.destroying)
      await leader.host.set(record.id, status: .running)
      for _ in 0..<5 { await other.control.monitor.tick() }
      #expect(try await other.status(record.id) == .destroying)
      #expect(await leader.host.destroyCalls == 0)
      #expect(
        try await leader.reconcile {
          await other.control.monitor.tick()
          return try await leader.status(record.id) == .stopped
        })
      #expect(await leader.host.destroyCalls == 1)
      let next = try await leader.leaveRow(.destroying)
      try await leader.database.close()
      #expect(try await other.reconcile { try await other.status(next.id) == .stopped })
    }
  }

  @Test("the leader leaves alone what the other one is creating")
  func creationElsewhere() async throws {
    try await withPlanes { leader, other in
      await leader.host.delay(.create, by: .milliseconds(300))
      async let creation = other.create()
      while try await leader.repository.alive().isEmpty { try await Task.sleep(for: .milliseconds(2)) }
      for _ in 0..<10 { await leader.control.monitor.tick() }
      #expect(try await creation.status == .running)
      for _ in 0..<3 { await leader.control.monitor.tick() }
      #expect(try await leader.repository.alive().map(\.status) == [.running])
    }
  }

  @Test("what another one left half made is repaired when it can be at work on it no longer, or is gone")
  func abandoned() async throws {
    try await withPlanes { leader, other in
      let first = try await leader.leaveRow(.starting)
      leader.clock.advance(by: Monitor.elsewhereGrace - 1)
      await leader.control.monitor.tick()
      #expect(try await leader.status(first.id) == .starting)
      leader.clock.advance(by: 2)
      #expect(try await leader.reconcile { try await leader.status(first.id) == .error })
      let second = try await leader.leaveRow(.starting)
      await leader.control.monitor.tick()
      #expect(try await leader.status(second.id) == .starting)
      try await other.database.close()
      #expect(
        try await leader.reconcile {
          leader.clock.advance(by: 1)
          return try await leader.status(second.id) == .error
        })
    }
  }

  @Test("of racing calls on both one wins, and all that may succeed twice does")
  func races() async throws {
    try await withPlanes { leader, other in
      let record = try await leader.create()
      try await withThrowingTaskGroup(of: Void.self) { group in
        for index in 0..<12 {
          let plane = index.isMultiple(of: 2) ? leader : other
          group.addTask { try await plane.service.destroy(record.id, for: leader.caller) }
        }
        try await group.waitForAll()
      }
      #expect(try await other.status(record.id) == .stopped)
      let log = try await AuditRepository(database: other.database).list(team: leader.caller.teamID, limit: 100)
      let lines = log.map { "\($0.record.action) \($0.record.outcome)" }
      #expect(lines.count { $0 == "sandbox.destroy accepted" } == 1)
      #expect(lines.count { $0 == "sandbox.destroy ok" } == 1)
    }
  }
}
