import ControlPlane
import Foundation
import Model
import Persistence
import TestSupport
import Testing

@Suite(.serialized, .bothLinks) struct MonitorTests {
  @Test(
    "a row left in pending or starting by a crash becomes error", arguments: [SandboxStatus.pending, .starting],
    SQLDialect.allCases)
  func interruptedCreate(status: SandboxStatus, dialect: SQLDialect) async throws {
    try await withPlane(dialect) { plane async throws -> Void in
      for onHost in [true, false] {
        let record = try await plane.leaveRow(status, onHost: onHost)
        #expect(try await plane.reconcile { try await plane.status(record.id) == .error })
        #expect(try await plane.repository.sandbox(record.id)?.error?.contains("create it again") == true)
      }
    }
  }

  @Test(
    "a creation that the host finished after a crash is adopted", arguments: [SandboxStatus.pending, .starting],
    SQLDialect.allCases)
  func adopted(status: SandboxStatus, dialect: SQLDialect) async throws {
    try await withPlane(dialect) { plane async throws -> Void in
      let record = try await plane.leaveRow(status)
      await plane.host.set(record.id, status: .running)
      #expect(try await plane.reconcile { try await plane.status(record.id) == .running })
    }
  }

  @Test("a row left in destroying is destroyed on its host, then stopped", arguments: SQLDialect.allCases)
  func interruptedDestroy(dialect: SQLDialect) async throws {
    try await withPlane(dialect) { plane async throws -> Void in
      let record = try await plane.leaveRow(.destroying)
      await plane.host.set(record.id, status: .running)
      #expect(try await plane.reconcile { try await plane.status(record.id) == .stopped })
      #expect(await plane.host.sandboxes.isEmpty)
    }
  }

  @Test(
    "a row left in pausing or resuming follows the host", arguments: [SandboxStatus.pausing, .resuming],
    SQLDialect.allCases)
  func interruptedPause(status: SandboxStatus, dialect: SQLDialect) async throws {
    try await withPlane(dialect) { plane async throws -> Void in
      let (running, paused, lost) = (
        try await plane.leaveRow(status), try await plane.leaveRow(status), try await plane.leaveRow(status)
      )
      await plane.host.set(running.id, status: .running)
      await plane.host.set(paused.id, status: .paused)
      #expect(try await plane.reconcile { try await plane.status(running.id) == .running })
      #expect(try await plane.reconcile { try await plane.status(paused.id) == .paused })
      #expect(try await plane.reconcile { try await plane.status(lost.id) == .error })
    }
  }

  @Test(
    "a sandbox whose VM died becomes error with the reason, and is released on the host", arguments: SQLDialect.allCases
  )
  func machineDied(dialect: SQLDialect) async throws {
    try await withPlane(dialect) { plane async throws -> Void in
      let record = try await plane.create()
      await plane.host.set(record.id, status: .error, reason: "QEMU was killed by signal 9")
      #expect(try await plane.reconcile { try await plane.status(record.id) == .error })
      #expect(try await plane.repository.sandbox(record.id)?.error == "QEMU was killed by signal 9")
      #expect(try await plane.reconcile { await plane.host.sandboxes.isEmpty })
    }
  }

  @Test("a sandbox that its host no longer has is stopped", arguments: SQLDialect.allCases)
  func vanished(dialect: SQLDialect) async throws {
    try await withPlane(dialect) { plane async throws -> Void in
      let record = try await plane.create()
      await plane.host.set(record.id, status: nil)
      #expect(try await plane.reconcile { try await plane.status(record.id) == .stopped })
    }
  }

  @Test(
    "a paused sandbox that a list omits is lost only if the host, queried for it, does not know it",
    arguments: SQLDialect.allCases)
  func pausedAbsent(dialect: SQLDialect) async throws {
    try await withPlane(dialect) { plane async throws -> Void in
      let record = try await plane.create()
      _ = try await plane.service.pause(record.id, for: plane.caller)
      await plane.host.unlist(record.id)
      for _ in 0..<3 { await plane.control.monitor.tick() }
      #expect(try await plane.status(record.id) == .paused)
      await plane.host.fail(.look, with: MartletError(.hostUnavailable, "away"))
      await plane.host.set(record.id, status: nil)
      for _ in 0..<3 { await plane.control.monitor.tick() }
      #expect(try await plane.status(record.id) == .paused)
      await plane.host.fail(.look, with: nil)
      #expect(try await plane.reconcile { try await plane.status(record.id) == .error })
      #expect(try await plane.repository.sandbox(record.id)?.error == "the paused sandbox is no longer on its host")
    }
  }

  @Test("an auto-pause is recorded with its reason, and counted once", arguments: SQLDialect.allCases)
  func autoPaused(dialect: SQLDialect) async throws {
    try await withPlane(dialect) { plane async throws -> Void in
      let record = try await plane.create { $0.timeoutSeconds = 5 }
      await plane.host.expire(record.id)
      for _ in 0..<3 { await plane.control.monitor.tick() }
      let row = try #require(try await plane.repository.sandbox(record.id))
      #expect(row.status == .paused && row.isAutoPaused)
      #expect(row.facts.vmm == "simulated" && row.facts.hostIP == nil)
      let text = try await plane.control.metrics.text()
      #expect(text.contains("martlet_operations_total{operation=\"auto_pause\",outcome=\"ok\"} 1\n"))
      #expect(text.contains("martlet_phase_duration_seconds_count{operation=\"auto_pause\",phase=\"freeze\"} 1\n"))
      #expect(text.contains("martlet_sandboxes{status=\"paused\"} 1\n"))
    }
  }

  @Test("a list from before a pause does not revert the pause", arguments: SQLDialect.allCases)
  func staleList(dialect: SQLDialect) async throws {
    try await withPlane(dialect) { plane async throws -> Void in
      let record = try await plane.create()
      // The round reads its rows after the list; meanwhile the sandbox is paused.
      await plane.host.delay(.list, by: .milliseconds(50))
      async let round: Void = plane.control.monitor.tick()
      _ = try await plane.service.pause(record.id, for: plane.caller)
      await round
      #expect(try await plane.status(record.id) == .paused)
    }
  }

  @Test(
    "resources of a destroyed sandbox on its host are removed at once, also if its row is deleted already",
    arguments: SQLDialect.allCases)
  func leftover(dialect: SQLDialect) async throws {
    try await withPlane(dialect) { plane async throws -> Void in
      for isForgotten in [false, true] {
        let record = try await plane.create()
        try await plane.service.destroy(record.id, for: plane.caller)
        if isForgotten { _ = try await plane.repository.deleteFinished(before: .distantFuture) }
        await plane.host.set(record.id, status: .running)
        #expect(try await plane.reconcile { await plane.host.sandboxes.isEmpty })
      }
    }
  }

  @Test(
    "sandboxes of an unresponsive host become missing, never stopped, and run again when it is back",
    arguments: SQLDialect.allCases)
  func silence(dialect: SQLDialect) async throws {
    try await withPlane(dialect) { plane async throws -> Void in
      let record = try await plane.create()
      await plane.control.monitor.tick()
      await plane.host.fail(.list, with: MartletError(.hostUnavailable, "away"))
      await plane.control.monitor.tick()
      #expect(try await plane.status(record.id) == .running)
      plane.clock.advance(by: Monitor.silenceLimit + 1)
      #expect(try await plane.reconcile { try await plane.status(record.id) == .missing })
      await plane.host.fail(.list, with: nil)
      #expect(try await plane.reconcile { try await plane.status(record.id) == .running })
    }
  }

  @Test("the monitor does not touch a creation in progress", arguments: SQLDialect.allCases)
  func creationInProgress(dialect: SQLDialect) async throws {
    try await withPlane(dialect) { plane async throws -> Void in
      await plane.host.delay(.create, by: .milliseconds(200))
      let creation = Task { try await plane.create() }
      while try await plane.repository.alive().isEmpty { try await Task.sleep(for: .milliseconds(2)) }
      for _ in 0..<5 { await plane.control.monitor.tick() }
      #expect(try await creation.value.status == .running)
    }
  }

  @Test("the activity that the host reports reaches the database", arguments: SQLDialect.allCases)
  func activity(dialect: SQLDialect) async throws {
    try await withPlane(dialect) { plane async throws -> Void in
      let record = try await plane.create()
      let later = plane.clock.now.addingTimeInterval(100)
      await plane.host.setActivity(record.id, later)
      await plane.control.monitor.tick()
      await plane.control.housekeeping.flush()
      #expect(try await plane.repository.sandbox(record.id)?.lastActiveAt == later)
    }
  }
}
