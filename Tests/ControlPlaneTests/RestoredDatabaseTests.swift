import ControlPlane
import Foundation
import HostAPI
import Model
import NIOCore
import Persistence
import TestSupport
import Testing

/// An older backup of the database comes back while the hosts have gone on: nothing is destroyed that was not deleted.
@Suite(.serialized) struct RestoredDatabaseTests {
  private static let steps = 24

  /// What users did, and what must therefore be on the host.
  private struct Ledger {
    var alive: [SandboxID: String] = [:]
    var destroyed: Set<SandboxID> = []
    var snapshots: [String: String] = [:]
  }

  @Test(
    "after a restore, what users made later is in quarantine, and adopted it is whole; what they deleted stays away",
    arguments: Array(0..<20), SQLDialect.allCases)
  func restore(seed: Int, dialect: SQLDialect) async throws {
    try await withTestDatabase(dialect) { database, store async throws -> Void in
      let (host, clock) = (SimulatedHost(), TestClock())
      let team = TeamRecord(name: "team", createdAt: clock.now)
      try await PeopleRepository(database: database).ensureTeam(team)
      let before = Plane(database: database, host: host, clock: clock, team: team.id)
      await before.settle()
      var generator = SeededGenerator(seed: UInt64(seed))
      var ledger = Ledger()
      // Between nothing and everything.
      let moment = seed * Self.steps / 20
      var backup: TestDatabase?
      for step in 0..<Self.steps {
        if step == moment { backup = try await store.copy() }
        try await act(before, &ledger, &generator, step)
      }
      let restored = try #require(backup)
      let copy = try restored.connect()
      try await check(Plane(database: copy, host: host, clock: clock, team: team.id), ledger, seed)
      try await copy.close()
      try await restored.remove()
    }
  }

  private func act(_ plane: Plane, _ ledger: inout Ledger, _ generator: inout SeededGenerator, _ step: Int) async throws
  {
    clockStep(plane)
    let ids = ledger.alive.keys.sorted()
    let chosen = ids.isEmpty ? nil : ids[Int(generator.next() % UInt64(ids.count))]
    switch (generator.next() % 6, chosen) {
    case (0...1, _), (_, nil):
      let id = try await plane.create().id
      await plane.host.put("/marker", ByteBuffer(string: "sandbox \(step)"), in: id)
      ledger.alive[id] = "sandbox \(step)"
    case (2, let id?):
      if try await plane.status(id) == .running {
        _ = try await plane.service.pause(id, for: plane.caller)
      } else {
        _ = try await plane.service.resume(id, for: plane.caller)
      }
    case (3, let id?):
      let name = "snapshot-\(generator.next() % 3)"
      _ = try await plane.snapshots.create(
        from: id, name: try SafeName(name), overwrites: true, for: plane.caller)
      ledger.snapshots[name] = ledger.alive[id]
    case (4, _):
      guard let name = ledger.snapshots.keys.sorted().first else { return }
      try await plane.snapshots.delete(try SafeName(name), for: plane.caller)
      ledger.snapshots[name] = nil
    case (_, let id?):
      try await plane.service.destroy(id, for: plane.caller)
      ledger.alive[id] = nil
      ledger.destroyed.insert(id)
    }
  }

  private func clockStep(_ plane: Plane) { plane.clock.advance(by: 1) }

  private func check(_ plane: Plane, _ ledger: Ledger, _ seed: Int) async throws {
    await plane.settle()
    for _ in 0..<4 {
      plane.clock.advance(by: Monitor.snapshotInterval + 1)
      await plane.control.monitor.tick()
      try await Task.sleep(for: .milliseconds(20))
    }
    let items = try await plane.control.quarantine.list(for: plane.administrator)
    for item in items {
      // Names of the backup that were given again later are taken.
      if case .snapshot(_, let template) = item.item.kind,
        try await plane.snapshotRepository.snapshot(template.name, team: template.teamID) != nil
      {
        Issue.record("seed \(seed): \(template.name) is quarantined beside a row of its name")
      }
      _ = try await plane.control.quarantine.adopt(item.item.id, for: plane.administrator)
    }
    for (id, marker) in ledger.alive {
      if try await plane.status(id) == .paused { _ = try await plane.service.resume(id, for: plane.caller) }
      #expect(try await plane.status(id) == .running, "seed \(seed)")
      #expect(await plane.host.file("/marker", in: id) == ByteBuffer(string: marker), "seed \(seed)")
    }
    for id in ledger.destroyed {
      #expect(await plane.host.sandboxes[id] == nil, "seed \(seed)")
      let status = try await plane.status(id)
      #expect(status == nil || status == .stopped || status == .error, "seed \(seed): \(String(describing: status))")
    }
    for (name, marker) in ledger.snapshots {
      let copy = try await plane.create { $0.template = (try? SafeName(name)) ?? .base }
      #expect(await plane.host.file("/marker", in: copy.id) == ByteBuffer(string: marker), "seed \(seed): \(name)")
    }
    #expect(await plane.host.snapshotNames == ledger.snapshots.keys.sorted(), "seed \(seed)")
  }
}
