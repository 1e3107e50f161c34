import ControlPlane
import Foundation
import HostAPI
import Model
import NIOCore
import Persistence
import TestSupport
import Testing

@Suite(.serialized, .bothLinks) struct PauseTests {
  @Test(
    "pause releases the instance, resume restores its content, and both report their phases",
    arguments: SQLDialect.allCases)
  func cycle(dialect: SQLDialect) async throws {
    try await withPlane(dialect) { plane async throws -> Void in
      let id = try await plane.create { $0.timeoutSeconds = 77 }.id
      await plane.host.put("/marker", ByteBuffer(string: "kept"), in: id)
      let paused = try await plane.service.pause(id, for: plane.caller)
      #expect(paused.record.status == .paused && !paused.record.isAutoPaused)
      #expect(paused.record.facts.hostIP == nil && paused.record.facts.vmm == "simulated")
      #expect(paused.timings.map(\.phase) == ["freeze", "save_memory", "release"])
      #expect(await plane.host.slots.taken.isEmpty)
      let resumed = try await plane.service.resume(id, for: plane.caller)
      #expect(resumed.record.status == .running && resumed.record.facts.hostIP != nil)
      #expect(resumed.timings.map(\.phase) == ["network", "restore", "guest"])
      #expect(await plane.host.file("/marker", in: id) == ByteBuffer(string: "kept"))
      #expect(await plane.host.timeouts[id] == 77)
    }
  }

  @Test(
    "the row is pausing or resuming before the host is called, and the monitor does not touch it",
    arguments: SQLDialect.allCases)
  func windows(dialect: SQLDialect) async throws {
    try await withPlane(dialect) { plane async throws -> Void in
      let id = try await plane.create().id
      for (operation, window, end) in [
        (SimulatedHost.Operation.pause, SandboxStatus.pausing, SandboxStatus.paused), (.resume, .resuming, .running),
      ] {
        await plane.host.delay(operation, by: .milliseconds(150))
        let task = Task {
          operation == .pause
            ? try await plane.service.pause(id, for: plane.caller)
            : try await plane.service.resume(id, for: plane.caller)
        }
        #expect(try await eventually { try await plane.status(id) == window })
        for _ in 0..<5 { await plane.control.monitor.tick() }
        #expect(try await task.value.record.status == end)
        #expect(try await plane.status(id) == end)
      }
    }
  }

  @Test("a client that disconnects does not stop a pause or resume", arguments: SQLDialect.allCases)
  func hangUp(dialect: SQLDialect) async throws {
    try await withPlane(dialect) { plane async throws -> Void in
      let id = try await plane.create().id
      await plane.host.delay(.pause, by: .milliseconds(100))
      let task = Task { try await plane.service.pause(id, for: plane.caller) }
      #expect(try await eventually { try await plane.status(id) == .pausing })
      task.cancel()
      #expect(try await eventually { try await plane.status(id) == .paused })
      #expect(await plane.host.sandboxes[id]?.status == .paused)
    }
  }

  @Test("a wrong state is invalid_state", arguments: SandboxStatus.allCases, SQLDialect.allCases)
  func wrongState(status: SandboxStatus, dialect: SQLDialect) async throws {
    try await withPlane(dialect) { plane async throws -> Void in
      let id = try await plane.leaveRow(status).id
      await plane.host.set(id, status: .running)
      let service = plane.service
      if status != .running {
        #expect(await code { _ = try await service.pause(id, for: plane.caller) } == .invalidState)
      }
      if status != .paused {
        #expect(await code { _ = try await service.resume(id, for: plane.caller) } == .invalidState)
      }
      if status != .running { #expect(await code { try await service.ping(id, for: plane.caller) } == .invalidState) }
      if status != .running, status != .paused {
        #expect(await code { _ = try await service.setTimeout(5, of: id, for: plane.caller) } == .invalidState)
        #expect(await code { _ = try await service.fork(id, count: 1, for: plane.caller) } == .invalidState)
        #expect(
          await code { _ = try await plane.snapshots.create(from: id, name: nil, for: plane.caller) } == .invalidState)
      }
      #expect(try await plane.status(id) == status)
    }
  }

  @Test("of many racing calls one succeeds, and the others fail with invalid_state", arguments: SQLDialect.allCases)
  func races(dialect: SQLDialect) async throws {
    try await withPlane(dialect) { plane async throws -> Void in
      let id = try await plane.create().id
      for isPause in [true, false] {
        let outcomes = await withTaskGroup(of: ErrorCode?.self) { group in
          for _ in 0..<12 {
            group.addTask {
              await code {
                _ =
                  isPause
                  ? try await plane.service.pause(id, for: plane.caller)
                  : try await plane.service.resume(id, for: plane.caller)
              }
            }
          }
          return await group.reduce(into: []) { $0.append($1) }
        }
        #expect(outcomes.count { $0 == nil } == 1)
        #expect(outcomes.allSatisfy { $0 == nil || $0 == .invalidState })
      }
    }
  }

  @Test(
    "a pause that fails leaves the sandbox running, a resume that fails leaves it paused",
    arguments: [ErrorCode.agentError, .insufficientStorage], SQLDialect.allCases)
  func failures(_ failure: ErrorCode, dialect: SQLDialect) async throws {
    try await withPlane(dialect) { plane async throws -> Void in
      let id = try await plane.create().id
      await plane.host.fail(.pause, with: MartletError(failure, "no"))
      #expect(await code { _ = try await plane.service.pause(id, for: plane.caller) } == failure)
      #expect(try await plane.status(id) == .running)
      await plane.host.fail(.pause, with: nil)
      _ = try await plane.service.pause(id, for: plane.caller)
      await plane.host.fail(
        .resume, with: MartletError(.snapshotDamaged, "the snapshot is damaged; resume the previous generation"))
      #expect(await code { _ = try await plane.service.resume(id, for: plane.caller) } == .snapshotDamaged)
      #expect(try await plane.status(id) == .paused)
      await plane.host.fail(.resume, with: nil)
      _ = try await plane.service.resume(id, for: plane.caller)
    }
  }

  @Test("a failed resume of an auto-paused sandbox leaves it auto-paused", arguments: SQLDialect.allCases)
  func keepsReason(dialect: SQLDialect) async throws {
    try await withPlane(dialect) { plane async throws -> Void in
      let id = try await plane.create().id
      await plane.host.expire(id)
      await plane.control.monitor.tick()
      await plane.host.fail(.resume, with: MartletError(.snapshotIncompatible, "another machine"))
      #expect(await code { _ = try await plane.service.resume(id, for: plane.caller) } == .snapshotIncompatible)
      #expect(try await plane.repository.sandbox(id)?.isAutoPaused == true)
    }
  }

  @Test("a sandbox whose VM is lost in a pause becomes error, with the host's reason", arguments: SQLDialect.allCases)
  func machineLost(dialect: SQLDialect) async throws {
    try await withPlane(dialect) { plane async throws -> Void in
      let id = try await plane.create().id
      await plane.host.loseInstances(true)
      await plane.host.fail(.pause, with: MartletError(.agentError, "the VM was lost"))
      #expect(await code { _ = try await plane.service.pause(id, for: plane.caller) } == .agentError)
      #expect(try await plane.status(id) == .error)
      #expect(try await plane.repository.sandbox(id)?.error == "the virtual machine ended")
      #expect(try await plane.reconcile { await plane.host.sandboxes.isEmpty })
    }
  }

  @Test("after a lost response the host is queried, and the change succeeds", arguments: SQLDialect.allCases)
  func lostAnswers(dialect: SQLDialect) async throws {
    try await withPlane(dialect) { plane async throws -> Void in
      let id = try await plane.create().id
      let lost = MartletError(.hostUnavailable, "the connection broke")
      await plane.host.loseResponse(of: .pause, with: lost)
      #expect(try await plane.service.pause(id, for: plane.caller).record.status == .paused)
      await plane.host.loseResponse(of: .resume, with: lost)
      #expect(try await plane.service.resume(id, for: plane.caller).record.status == .running)
    }
  }

  @Test(
    "during an outage of the host the row keeps its state, and it is repaired when the host is back",
    arguments: SQLDialect.allCases)
  func hostAway(dialect: SQLDialect) async throws {
    try await withPlane(dialect) { plane async throws -> Void in
      let id = try await plane.create().id
      let away = MartletError(.hostUnavailable, "away")
      for operation in [SimulatedHost.Operation.pause, .look, .list] { await plane.host.fail(operation, with: away) }
      #expect(await code { _ = try await plane.service.pause(id, for: plane.caller) } == .hostUnavailable)
      #expect(try await plane.status(id) == .pausing)
      plane.clock.advance(by: Monitor.silenceLimit * 2)
      for _ in 0..<3 { await plane.control.monitor.tick() }
      #expect(try await plane.status(id) == .pausing)
      for operation in [SimulatedHost.Operation.pause, .look, .list] { await plane.host.fail(operation, with: nil) }
      #expect(try await plane.reconcile { try await plane.status(id) == .running })
    }
  }

  @Test("a pause that races the auto-pause results in one snapshot", arguments: SQLDialect.allCases)
  func meetsAutoPause(dialect: SQLDialect) async throws {
    try await withPlane(dialect) { plane async throws -> Void in
      let id = try await plane.create().id
      await plane.host.put("/marker", ByteBuffer(string: "kept"), in: id)
      await plane.host.expire(id)
      #expect(try await plane.service.pause(id, for: plane.caller).record.status == .paused)
      #expect(await plane.host.generations[id]?.count == 1)
      _ = try await plane.service.resume(id, for: plane.caller)
      #expect(await plane.host.file("/marker", in: id) == ByteBuffer(string: "kept"))
    }
  }

  @Test(
    "resume works at once if the idle time-out has paused the sandbox and the row does not say so yet",
    arguments: SQLDialect.allCases)
  func resumeUnnoticed(dialect: SQLDialect) async throws {
    try await withPlane(dialect) { plane async throws -> Void in
      let id = try await plane.create().id
      await plane.host.expire(id)
      #expect(try await plane.status(id) == .running)
      #expect(try await plane.service.resume(id, for: plane.caller).record.status == .running)
      #expect(await plane.host.sandboxes[id]?.status == .running)
    }
  }

  @Test("the previous generation can be resumed", arguments: SQLDialect.allCases)
  func previousGeneration(dialect: SQLDialect) async throws {
    try await withPlane(dialect) { plane async throws -> Void in
      let id = try await plane.create().id
      for text in ["one", "two"] {
        await plane.host.put("/f", ByteBuffer(string: text), in: id)
        _ = try await plane.service.pause(id, for: plane.caller)
        if text == "one" { _ = try await plane.service.resume(id, for: plane.caller) }
      }
      _ = try await plane.service.resume(id, previous: true, for: plane.caller)
      #expect(await plane.host.file("/f", in: id) == ByteBuffer(string: "one"))
    }
  }

  @Test(
    "ping restarts the idle timer on the host and in the database; its errors are distinct",
    arguments: SQLDialect.allCases)
  func ping(dialect: SQLDialect) async throws {
    try await withPlane(dialect) { plane async throws -> Void in
      let id = try await plane.create().id
      plane.clock.advance(by: 100)
      try await plane.service.ping(id, for: plane.caller)
      await plane.control.housekeeping.flush()
      #expect(try await plane.repository.sandbox(id)?.lastActiveAt == plane.clock.now)
      #expect(await plane.host.calls[.ping] == 1)
      await plane.host.expire(id)
      #expect(await code { try await plane.service.ping(id, for: plane.caller) } == .invalidState)
      #expect(try await plane.status(id) == .paused)
      #expect(await code { try await plane.service.ping(SandboxID(), for: plane.caller) } == .notFound)
    }
  }

  @Test("a new time-out takes effect on the host at once, or at the next resume", arguments: SQLDialect.allCases)
  func timeout(dialect: SQLDialect) async throws {
    try await withPlane(dialect) { plane async throws -> Void in
      let id = try await plane.create().id
      #expect(try await plane.service.setTimeout(9, of: id, for: plane.caller).spec.timeoutSeconds == 9)
      #expect(await plane.host.timeouts[id] == 9)
      _ = try await plane.service.pause(id, for: plane.caller)
      _ = try await plane.service.setTimeout(11, of: id, for: plane.caller)
      #expect(await plane.host.timeouts[id] == 9)
      _ = try await plane.service.resume(id, for: plane.caller)
      #expect(await plane.host.timeouts[id] == 11)
      await plane.host.fail(.timeout, with: MartletError(.agentError, "no"))
      #expect(await code { _ = try await plane.service.setTimeout(5, of: id, for: plane.caller) } == .agentError)
      #expect(try await plane.repository.sandbox(id)?.spec.timeoutSeconds == 11)
      for bad in [-1, 2_592_001, .max, .min] {
        #expect(
          await code { _ = try await plane.service.setTimeout(bad, of: id, for: plane.caller) } == .invalidRequest)
      }
    }
  }

  @Test(
    "a time-out that was acknowledged before a resume applies to the resumed sandbox",
    arguments: SQLDialect.allCases)
  func timeoutMeetsResume(dialect: SQLDialect) async throws {
    try await withPlane(dialect) { plane async throws -> Void in
      let id = try await plane.create { $0.timeoutSeconds = 3_600 }.id
      for round in 1...20 {
        _ = try await plane.service.pause(id, for: plane.caller)
        async let setting = code { _ = try await plane.service.setTimeout(round * 100, of: id, for: plane.caller) }
        async let resuming = code { _ = try await plane.service.resume(id, for: plane.caller) }
        #expect(await resuming == nil)
        guard await setting == nil else { continue }
        let wanted = try await plane.repository.sandbox(id)?.spec.timeoutSeconds
        #expect(await plane.host.timeouts[id] == wanted)
      }
    }
  }

  @Test(
    "destroy takes precedence over a pause or resume in progress, and leaves nothing", arguments: [true, false],
    SQLDialect.allCases)
  func destroyDuring(isPause: Bool, dialect: SQLDialect) async throws {
    try await withPlane(dialect) { plane async throws -> Void in
      let id = try await plane.create().id
      if !isPause { _ = try await plane.service.pause(id, for: plane.caller) }
      await plane.host.delay(isPause ? .pause : .resume, by: .milliseconds(150))
      let change = Task {
        isPause
          ? try await plane.service.pause(id, for: plane.caller) : try await plane.service.resume(id, for: plane.caller)
      }
      let window: SandboxStatus = isPause ? .pausing : .resuming
      #expect(try await eventually { await plane.host.sandboxes[id]?.status == window })
      try await plane.service.destroy(id, for: plane.caller)
      #expect(try await plane.status(id) == .stopped)
      await #expect(throws: MartletError.self) { try await change.value }
      #expect(try await plane.status(id) == .stopped)
      #expect(await plane.host.sandboxes.isEmpty)
      #expect(await plane.host.generations.isEmpty)
      #expect(await plane.host.slots.taken.isEmpty)
    }
  }

  @Test("pause, resume, ping and time-out do not find another team's sandbox", arguments: SQLDialect.allCases)
  func teamScope(dialect: SQLDialect) async throws {
    try await withPlane(dialect) { plane async throws -> Void in
      let id = try await plane.create().id
      let outsider = Caller(principal: Principal(kind: .user(UserID()), teamID: TeamID()))
      let service = plane.service
      #expect(await code { _ = try await service.pause(id, for: outsider) } == .notFound)
      #expect(await code { _ = try await service.resume(id, for: outsider) } == .notFound)
      #expect(await code { _ = try await service.fork(id, count: 1, for: outsider) } == .notFound)
      #expect(await code { try await service.ping(id, for: outsider) } == .notFound)
      #expect(await code { _ = try await service.setTimeout(1, of: id, for: outsider) } == .notFound)
      #expect(await code { _ = try await plane.snapshots.create(from: id, name: nil, for: outsider) } == .notFound)
    }
  }

  @Test(
    "after each of a thousand pauses the sandbox can be resumed, and no slot is lost", arguments: SQLDialect.allCases)
  func manyCycles(dialect: SQLDialect) async throws {
    try await withPlane(dialect) { plane async throws -> Void in
      let id = try await plane.create().id
      for number in 0..<1_000 {
        await plane.host.put("/n", ByteBuffer(string: "\(number)"), in: id)
        _ = try await plane.service.pause(id, for: plane.caller)
        _ = try await plane.service.resume(id, for: plane.caller)
        #expect(await plane.host.file("/n", in: id) == ByteBuffer(string: "\(number)"))
      }
      #expect(await plane.host.slots.doubleReleases == 0)
      #expect(await plane.host.slots.taken.count == 1)
    }
  }
}
