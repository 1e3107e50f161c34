import Foundation
import HostAPI
import Model
import NIOCore
import Persistence
import TestSupport
import Testing

@testable import ControlPlane

/// The state that a control plane leaves when it dies between two steps, and how the next one repairs it.
@Suite(.serialized) struct CrashPointTests {
  /// The row's final state, given the sandbox's state on its host (nil: unknown to the host).
  private static func settled(_ row: SandboxStatus, _ host: SandboxStatus?) -> SandboxStatus {
    switch (row, host) {
    case (.stopped, _), (.destroying, _): .stopped
    case (.error, _): .error
    case (.pending, nil), (.starting, nil): .error
    case (.pending, .running), (.starting, .running): .running
    case (.pending, .paused), (.starting, .paused): .paused
    case (.running, nil), (.missing, nil): .stopped
    case (.pausing, nil), (.paused, nil), (.resuming, nil): .error
    case (.running, .stopped), (.missing, .stopped): .stopped
    case (_, .stopped), (_, .error): .error
    case (_, .running): .running
    case (_, .paused): .paused
    default: row
    }
  }

  private static let hostStates: [SandboxStatus?] = [nil, .running, .pausing, .paused, .resuming, .error, .stopped]

  @Test(
    "for every state of the row and on the host, the host's report decides",
    arguments: SandboxStatus.allCases,
    SQLDialect.allCases)
  func matrix(row: SandboxStatus, dialect: SQLDialect) async throws {
    try await withPlane(dialect) { plane async throws -> Void in
      var expected: [(id: SandboxID, host: SandboxStatus?, status: SandboxStatus)] = []
      for host in Self.hostStates {
        let record = try await plane.leaveRow(row)
        await plane.host.put("/f", ByteBuffer(string: "data"), in: record.id)
        await plane.host.set(record.id, status: host, reason: host == .error ? "died" : nil)
        let isInFlight = host == .pausing || host == .resuming
        let isAdopted = isInFlight && (row == .pending || row == .starting)
        expected.append((record.id, host, isAdopted ? .running : Self.settled(row, host)))
      }
      #expect(
        try await plane.reconcile {
          for (id, _, status) in expected where try await plane.status(id) != status { return false }
          return true
        })
      for (id, host, status) in expected {
        #expect(try await plane.status(id) == status, "row \(row), host \(String(describing: host))")
        if host == .paused, status == .paused {
          #expect(await plane.host.savedFile("/f", in: id) == ByteBuffer(string: "data"))
        }
        if status == .stopped || status == .error {
          #expect(
            try await plane.reconcile { await plane.host.sandboxes[id] == nil },
            "row \(row), host \(String(describing: host))")
        }
      }
    }
  }

  @Test("a reconciled row stays unchanged", arguments: SandboxStatus.allCases, SQLDialect.allCases)
  func stable(row: SandboxStatus, dialect: SQLDialect) async throws {
    try await withPlane(dialect) { plane async throws -> Void in
      for host in Self.hostStates {
        let record = try await plane.leaveRow(row)
        await plane.host.set(record.id, status: host)
      }
      for _ in 0..<8 {
        await plane.control.monitor.tick()
        try await Task.sleep(for: .milliseconds(10))
      }
      let before = try await plane.repository.list(
        SandboxFilter(statuses: Set(SandboxStatus.allCases), limit: 100), team: plane.caller.teamID)
      for _ in 0..<3 { await plane.control.monitor.tick() }
      let after = try await plane.repository.list(
        SandboxFilter(statuses: Set(SandboxStatus.allCases), limit: 100), team: plane.caller.teamID)
      #expect(before.map(\.revision) == after.map(\.revision))
    }
  }

  @Test(
    "destroy succeeds in every state of the row and the host", arguments: SandboxStatus.allCases, SQLDialect.allCases)
  func destroy(row: SandboxStatus, dialect: SQLDialect) async throws {
    try await withPlane(dialect) { plane async throws -> Void in
      for host in Self.hostStates where row != .stopped {
        let record = try await plane.leaveRow(row)
        await plane.host.set(record.id, status: host)
        try await plane.service.destroy(record.id, for: plane.caller)
        #expect(try await plane.status(record.id) == .stopped)
        #expect(await plane.host.sandboxes[record.id] == nil)
        #expect(await plane.host.generations[record.id] == nil)
      }
      #expect(await plane.host.slots.taken.isEmpty)
    }
  }

  @Test(
    "after an outage in which a host paused everything, all rows are paused and none is stopped",
    arguments: SQLDialect.allCases
  )
  func outage(dialect: SQLDialect) async throws {
    try await withPlane(dialect) { plane async throws -> Void in
      var ids: [SandboxID] = []
      for _ in 0..<5 { ids.append(try await plane.create().id) }
      await plane.control.monitor.tick()
      await plane.host.fail(.list, with: MartletError(.hostUnavailable, "away"))
      plane.clock.advance(by: Monitor.silenceLimit + 1)
      for id in ids { #expect(try await plane.reconcile { try await plane.status(id) == .missing }) }
      for id in ids { await plane.host.expire(id) }
      await plane.host.fail(.list, with: nil)
      for id in ids { #expect(try await plane.reconcile { try await plane.status(id) == .paused }) }
      for id in ids { #expect(try await plane.service.resume(id, for: plane.caller).record.status == .running) }
    }
  }

  private func row(
    _ plane: Plane, _ name: String, _ status: SnapshotRecord.Status, onHost: Bool = true, age: TimeInterval = 0
  ) async throws -> SnapshotRecord {
    let record = SnapshotRecord(
      teamID: plane.caller.teamID, name: try SafeName(name), status: status, vcpus: 1, memoryMiB: 512,
      diskSizeMiB: 5120,
      hostID: onHost ? plane.host.hostID : HostID(), createdAt: plane.clock.now.addingTimeInterval(-age))
    #expect(try await plane.snapshotRepository.insert(record))
    return record
  }

  @Test(
    "a snapshot that was completed before the crash is published with the host's values",
    arguments: [SnapshotRecord.Status.creating, .replacing], SQLDialect.allCases)
  func published(status: SnapshotRecord.Status, dialect: SQLDialect) async throws {
    try await withPlane(dialect) { plane async throws -> Void in
      let record = try await row(plane, "golden", status)
      await plane.host.setSnapshot(record.name, team: record.teamID, files: [:])
      #expect(
        try await plane.reconcile {
          let row = try await plane.snapshotRepository.snapshot(record.name, team: record.teamID)
          return row?.status == .ready && row?.memoryMiB == 256
        })
    }
  }

  @Test(
    "the name of an incomplete snapshot is released when no worker can be at work on it any more",
    arguments: SQLDialect.allCases)
  func abandoned(dialect: SQLDialect) async throws {
    try await withPlane(dialect) { plane async throws -> Void in
      var record = try await row(plane, "golden", .creating)
      record.worker = plane.database.worker
      for _ in 0..<3 { await plane.control.monitor.tick() }
      #expect(try await plane.snapshotRepository.snapshot(record.name, team: record.teamID) == record)
      plane.clock.advance(by: 601)
      #expect(try await plane.reconcile { try await plane.snapshotRepository.all().isEmpty })
    }
  }

  @Test(
    "the name of an incomplete snapshot of an earlier server is released at once", arguments: SQLDialect.allCases)
  func abandonedByPredecessor(dialect: SQLDialect) async throws {
    try await withPlane(dialect) { plane async throws -> Void in
      // Simulates a control plane that has run for as long as a row may take to settle.
      _ = try await row(plane, "golden", .creating, age: Leadership.absence + 2)
      #expect(try await plane.reconcile { try await plane.snapshotRepository.all().isEmpty })
    }
  }

  @Test("a deletion that was begun is finished on every host", arguments: SQLDialect.allCases)
  func deletion(dialect: SQLDialect) async throws {
    let other = SimulatedHost()
    try await withPlane(dialect, otherHosts: [other]) { plane async throws -> Void in
      let record = try await row(plane, "golden", .deleting)
      for host in [plane.host, other] {
        await host.setSnapshot(record.name, team: record.teamID, files: [:], createdAt: record.createdAt)
      }
      #expect(try await plane.reconcile { try await plane.snapshotRepository.all().isEmpty })
      #expect(await plane.host.snapshotNames.isEmpty)
      #expect(await other.snapshotNames.isEmpty)
    }
  }

  @Test(
    "files without a row are quarantined, also those of an unknown team; a row without files is deleted",
    arguments: SQLDialect.allCases)
  func filesWithoutRow(dialect: SQLDialect) async throws {
    try await withPlane(dialect) { plane async throws -> Void in
      await plane.host.setSnapshot(
        try SafeName("found"), team: plane.caller.teamID, files: ["/f": ByteBuffer(string: "x")])
      await plane.host.setSnapshot(try SafeName("orphan"), team: TeamID(), files: [:])
      let lost = try await row(plane, "lost", .ready)
      #expect(
        try await plane.reconcile { try await plane.snapshotRepository.snapshot(lost.name, team: lost.teamID) == nil })
      #expect(try await plane.reconcile { await plane.host.quarantinedSnapshots.count == 2 })
      #expect(await plane.host.snapshotNames.isEmpty)
    }
  }

  @Test(
    "an older copy on another host is removed if it has a tombstone, else quarantined; the row's copy stays",
    arguments: SQLDialect.allCases)
  func staleCopy(dialect: SQLDialect) async throws {
    for isDeleted in [true, false] {
      let other = SimulatedHost()
      try await withPlane(dialect, otherHosts: [other]) { plane async throws -> Void in
        let record = try await row(plane, "golden", .ready)
        await plane.host.setSnapshot(record.name, team: record.teamID, files: [:], createdAt: record.createdAt)
        let older = record.createdAt.addingTimeInterval(-100)
        if isDeleted {
          try await TombstoneRepository(database: plane.database).bury(
            record.name, team: record.teamID, createdAt: older, at: plane.clock.now)
        }
        await other.setSnapshot(record.name, team: record.teamID, files: [:], createdAt: older)
        #expect(try await plane.reconcile { await other.snapshotNames.isEmpty })
        #expect(await other.quarantinedSnapshots.isEmpty == isDeleted)
        #expect(
          try await plane.reconcile {
            try await plane.snapshotRepository.snapshot(record.name, team: record.teamID)?.status == .ready
          })
        #expect(await plane.host.snapshotNames == ["golden"])
      }
    }
  }

  @Test("a snapshot whose response was lost is published by the monitor", arguments: SQLDialect.allCases)
  func lostAnswer(dialect: SQLDialect) async throws {
    try await withPlane(dialect) { plane async throws -> Void in
      let id = try await plane.create().id
      let name = try SafeName("golden")
      await plane.host.loseResponse(of: .snapshot, with: MartletError(.hostUnavailable, "the connection broke"))
      #expect(
        await code { _ = try await plane.snapshots.create(from: id, name: name, for: plane.caller) } == .hostUnavailable
      )
      #expect(
        try await plane.reconcile {
          try await plane.snapshotRepository.snapshot(name, team: plane.caller.teamID)?.status == .ready
        })
    }
  }

  @Test(
    "after a crash during a fork, completed copies are adopted and the others become error",
    arguments: SQLDialect.allCases)
  func interruptedFork(dialect: SQLDialect) async throws {
    try await withPlane(dialect) { plane async throws -> Void in
      let (made, notMade) = (try await plane.leaveRow(.starting), try await plane.leaveRow(.starting))
      await plane.host.set(made.id, status: .running)
      #expect(try await plane.reconcile { try await plane.status(made.id) == .running })
      #expect(try await plane.reconcile { try await plane.status(notMade.id) == .error })
    }
  }
}
