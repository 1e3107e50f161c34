import Foundation
import HostAPI
import Model
import NIOCore
import Persistence
import TestSupport
import Testing

@testable import ControlPlane

/// Two control planes on one PostgreSQL database.
@Suite(.serialized) struct SharedDatabaseTests {
  @Test("background work is done by the leader only, and by the other control plane after the leader's end")
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

  @Test("the leader does not touch sandboxes that the other control plane is creating")
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

  @Test("an unfinished operation of another worker is repaired after its time limit, or soon after the worker's end")
  func abandoned() async throws {
    try await withPlanes { leader, other in
      let first = try await other.leaveRow(.starting)
      leader.clock.advance(by: Monitor.elsewhereGrace - 1)
      await leader.control.monitor.tick()
      #expect(try await leader.status(first.id) == .starting)
      leader.clock.advance(by: 2)
      #expect(try await leader.reconcile { try await leader.status(first.id) == .error })
      let second = try await other.leaveRow(.starting)
      await leader.control.monitor.tick()
      #expect(try await leader.status(second.id) == .starting)
      try await other.database.close()
      let closed = leader.clock.now
      #expect(
        try await leader.reconcile {
          leader.clock.advance(by: 0.02)
          return try await leader.status(second.id) == .error
        })
      #expect(leader.clock.now.timeIntervalSince(closed) < 10)
    }
  }

  @Test("a new leader waits for other workers as long as they need to reconnect, and no longer")
  func succession() async throws {
    try await withPlanes { leader, other in
      let row = try await leader.leaveRow(.starting)
      try await leader.database.close()
      #expect(try await eventually { await other.control.leadership.isLeader() })
      await other.control.monitor.tick()
      #expect(try await other.status(row.id) == .starting)
      other.clock.advance(by: Leadership.absence)
      #expect(try await other.reconcile { try await other.status(row.id) == .error })
    }
  }

  @Test(
    "each control plane repairs its own abandoned operations, whether or not it is the leader",
    arguments: [SandboxStatus.pausing, .resuming])
  func own(status: SandboxStatus) async throws {
    try await withPlanes { leader, other in
      for plane in [leader, other] {
        let row = try await plane.leaveRow(status)
        await plane.host.set(row.id, status: .paused)
        let otherPlane = plane.database.worker == leader.database.worker ? other : leader
        await otherPlane.control.monitor.tick()
        #expect(try await plane.status(row.id) == status)
        #expect(try await plane.reconcile { try await plane.status(row.id) == .paused })
      }
    }
  }

  @Test("a key that one control plane deletes is refused by the other at once, and changes are visible there at once")
  func keptElsewhere() async throws {
    try await withPlanes { leader, other in
      let keys = APIKeyRepository(database: leader.database)
      let authenticator = other.control.authenticator
      let sandbox = try await leader.leaveRow(.running)
      for round in 0..<200 {
        let secret = APIKeySecret.random()
        let key = APIKeyRecord(
          teamID: leader.caller.teamID, name: "k", keyPrefix: secret.shownPrefix, keyHash: secret.hash, createdBy: nil,
          createdAt: Date())
        let audit = leader.caller.audit("x", of: "api_key", key.id.wire, outcome: "ok", at: Date())
        try await keys.insert(key, audit: audit)
        for _ in 0..<3 {
          let authenticated = try await authenticator.authenticate(PresentedCredentials(apiKey: secret.text))
          #expect(authenticated.value.teamID == leader.caller.teamID)
          let seen = try await other.service.sandbox(sandbox.id, for: other.caller, notBefore: authenticated.version)
          #expect(seen.spec.timeoutSeconds == round)
        }
        #expect(
          try await leader.repository.setTimeout(
            round + 1, of: sandbox.id, team: leader.caller.teamID, in: .running, at: Date())
            != nil)
        _ = try await keys.delete(key.id, team: leader.caller.teamID, audit: audit)
        #expect(await code { _ = try await authenticator.principal(apiKey: secret.text) } == .unauthorized)
        #expect(try await other.service.sandbox(sandbox.id, for: other.caller).spec.timeoutSeconds == round + 1)
      }
    }
  }

  @Test("of racing calls on both control planes one succeeds, and idempotent ones all succeed")
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

  @Test("creates with one idempotency key, racing on both control planes, create one sandbox")
  func repetitions() async throws {
    try await withPlanes { leader, other in
      for round in 0..<10 {
        await leader.host.delay(.create, by: .milliseconds(round * 3))
        let ids = try await withThrowingTaskGroup(of: SandboxID.self) { group in
          for index in 0..<8 {
            let plane = index.isMultiple(of: 2) ? leader : other
            group.addTask {
              try await plane.service.create(NewSandbox(), for: leader.caller, idempotencyKey: "round-\(round)").record
                .id
            }
          }
          return try await group.reduce(into: Set<SandboxID>()) { $0.insert($1) }
        }
        #expect(ids.count == 1)
        #expect(await leader.host.sandboxes.count == round + 1)
      }
    }
  }

  @Test("of pauses or resumes that race on both control planes, the host gets one")
  func pauses() async throws {
    try await withPlanes { leader, other in
      let id = try await leader.create().id
      for _ in 0..<10 {
        for (action, end) in [("sandbox.pause", SandboxStatus.paused), ("sandbox.resume", .running)] {
          let lines = try await log(leader, action)
          await withDiscardingTaskGroup { group in
            for index in 0..<8 {
              let plane = index.isMultiple(of: 2) ? leader : other
              group.addTask {
                let code = await code {
                  switch end {
                  case .paused: _ = try await plane.service.pause(id, for: leader.caller)
                  default: _ = try await plane.service.resume(id, for: leader.caller)
                  }
                }
                #expect(code == nil || code == .invalidState)
              }
            }
          }
          #expect(try await other.status(id) == end)
          #expect(await leader.host.sandboxes[id]?.status == end)
          let new = try await log(leader, action).dropFirst(lines.count)
          #expect(new.count { $0 == "ok" } == 1)
        }
      }
    }
  }

  /// The outcomes of one action, oldest first.
  private func log(_ plane: Plane, _ action: String) async throws -> [String] {
    try await AuditRepository(database: plane.database).list(team: plane.caller.teamID, limit: 1_000)
      .filter { $0.record.action == action }.map(\.record.outcome).reversed()
  }
}

/// Two control planes on one PostgreSQL database, each with a host that the other one calls over the network.
@Suite(.serialized) struct SharedHostsTests {
  private func withServers(_ body: (_ leader: Plane, _ other: Plane) async throws -> Void) async throws {
    try await withTestDatabase(.postgresql) { database, store async throws -> Void in
      let second = try store.connect()
      let clock = TestClock()
      let team = TeamRecord(name: "team", createdAt: clock.now)
      try await PeopleRepository(database: database).ensureTeam(team)
      let hosts = [SimulatedHost(), SimulatedHost()]
      try await ServedHost.runAll(hosts) { clients in
        let leader = Plane(
          database: database, host: hosts[0], directory: FixedHosts([hosts[0], clients[1]]), clock: clock, team: team.id
        )
        let other = Plane(
          database: second, host: hosts[1], directory: FixedHosts([clients[0], hosts[1]]), clock: clock, team: team.id)
        for plane in [leader, other, leader] { await plane.settle() }
        try await body(leader, other)
      }
      try await second.close()
    }
  }

  @Test("each control plane works in sandboxes on the other's host, regardless of which one created them")
  func foreign() async throws {
    try await withServers { leader, other in
      for creator in [leader, other] {
        var seen: Set<HostID> = []
        for _ in 0..<4 {
          let record = try await creator.create()
          seen.insert(try #require(record.facts.hostID))
          for plane in [leader, other] {
            let result = try await plane.service.exec(
              ProcessRequest(command: "echo", arguments: ["here"]), in: record.id, for: plane.caller)
            #expect(result.standardOutput == ByteBuffer(string: "here\n"))
            _ = try await plane.service.pause(record.id, for: plane.caller)
            _ = try await plane.service.resume(record.id, for: plane.caller)
          }
          try await leader.service.destroy(record.id, for: leader.caller)
        }
        #expect(seen.count == 2)
      }
      for plane in [leader, other] {
        #expect(await plane.host.sandboxes.isEmpty)
        #expect(await plane.host.slots.doubleReleases == 0)
      }
    }
  }

  @Test("a snapshot is created on its sandbox's host, and sandboxes from it too, through either control plane")
  func snapshots() async throws {
    try await withServers { leader, other in
      let name = try SafeName("warm")
      let source = try await leader.create()
      _ = try await other.snapshots.create(from: source.id, name: name, for: other.caller)
      for plane in [leader, other] {
        let copy = try await plane.create { $0.template = name }
        #expect(copy.facts.hostID == source.facts.hostID)
        let forks = try await plane.service.fork(copy.id, count: 2, for: plane.caller)
        #expect(forks.allSatisfy { $0.record.facts.hostID == source.facts.hostID })
      }
      try await other.snapshots.delete(name, for: other.caller)
      for plane in [leader, other] { #expect(await plane.host.snapshotNames.isEmpty) }
    }
  }

  @Test("the leader reconciles both hosts, and an unresponsive host loses no sandbox")
  func reconciled() async throws {
    try await withServers { leader, other in
      let records = [try await leader.create(), try await leader.create()]
      let remote = try #require(records.first { $0.facts.hostID == other.host.hostID })
      await other.host.expire(remote.id)
      #expect(try await leader.reconcile { try await leader.status(remote.id) == .paused })
      _ = try await leader.service.resume(remote.id, for: leader.caller)
      await other.host.fail(.list, with: MartletError(.hostUnavailable, "away"))
      await leader.control.monitor.tick()
      leader.clock.advance(by: Monitor.silenceLimit + 1)
      #expect(try await leader.reconcile { try await leader.status(remote.id) == .missing })
      for record in records where record.id != remote.id { #expect(try await leader.status(record.id) == .running) }
      await other.host.fail(.list, with: nil)
      #expect(try await leader.reconcile { try await leader.status(remote.id) == .running })
    }
  }
}
