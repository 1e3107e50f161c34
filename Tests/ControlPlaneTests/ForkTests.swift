import ControlPlane
import Foundation
import HostAPI
import Model
import NIOCore
import Persistence
import TestSupport
import Testing

@Suite(.serialized, .bothLinks) struct ForkTests {
  @Test(
    "copies have the original's content and settings, and are independent sandboxes", arguments: [true, false],
    SQLDialect.allCases)
  func copies(isPaused: Bool, dialect: SQLDialect) async throws {
    try await withPlane(dialect) { plane async throws -> Void in
      let source = try await plane.create {
        $0.template = .base
        $0.vcpus = 2
        $0.memoryMiB = 1024
        $0.timeoutSeconds = 60
        $0.metadata = ["a": "b"]
        $0.envs = ["E": "v"]
        $0.autoResumes = true
      }
      await plane.host.put("/f", ByteBuffer(string: "shared"), in: source.id)
      if isPaused { _ = try await plane.service.pause(source.id, for: plane.caller) }
      let copies = try await plane.service.fork(source.id, count: 3, for: plane.caller)
      #expect(Set(copies.map(\.record.id)).count == 3)
      for copy in copies {
        var spec = source.spec
        spec.id = copy.record.id
        #expect(copy.record.spec == spec)
        #expect(copy.record.status == .running && copy.record.autoResumes)
        #expect(copy.record.facts.hostID == plane.host.hostID)
        #expect(!copy.timings.isEmpty)
        #expect(await plane.host.file("/f", in: copy.record.id) == ByteBuffer(string: "shared"))
      }
      #expect(try await plane.status(source.id) == (isPaused ? .paused : .running))
      try await plane.service.destroy(source.id, for: plane.caller)
      _ = try await plane.service.exec(ProcessRequest(command: "echo"), in: copies[0].record.id, for: plane.caller)
    }
  }

  @Test("copies that fail become error with the reason; the others are returned", arguments: SQLDialect.allCases)
  func partial(dialect: SQLDialect) async throws {
    try await withPlane(dialect) { plane async throws -> Void in
      let id = try await plane.create().id
      await plane.host.failFork(at: 1, with: MartletError(.insufficientStorage, "the disk is full"))
      let copies = try await plane.service.fork(id, count: 3, for: plane.caller)
      #expect(copies.count == 2)
      let failed = try await plane.repository.list(
        SandboxFilter(statuses: [.error], limit: 10), team: plane.caller.teamID)
      #expect(failed.map(\.error) == ["the disk is full"])
      #expect(await plane.host.sandboxes.count == 3)
    }
  }

  @Test("when all copies fail the first error is thrown, and no resources are left", arguments: SQLDialect.allCases)
  func none(dialect: SQLDialect) async throws {
    try await withPlane(dialect) { plane async throws -> Void in
      let id = try await plane.create().id
      await plane.host.fail(.fork, with: MartletError(.agentError, "no"))
      #expect(await code { _ = try await plane.service.fork(id, count: 2, for: plane.caller) } == .agentError)
      #expect(try await plane.repository.alive().map(\.id) == [id])
      #expect(await plane.host.sandboxes.count == 1)
      await plane.host.fail(.fork, with: nil)
      await plane.host.loseResponse(of: .fork, with: MartletError(.hostUnavailable, "away"))
      #expect(await code { _ = try await plane.service.fork(id, count: 2, for: plane.caller) } == .hostUnavailable)
      #expect(await plane.host.sandboxes.count == 1)
    }
  }

  @Test(
    "counts out of bounds are refused before anything is written", arguments: [0, -1, 101, .max, .min],
    SQLDialect.allCases)
  func bounds(count: Int, dialect: SQLDialect) async throws {
    try await withPlane(dialect) { plane async throws -> Void in
      let id = try await plane.create().id
      #expect(await code { _ = try await plane.service.fork(id, count: count, for: plane.caller) } == .invalidRequest)
      #expect(try await plane.repository.alive().count == 1)
    }
  }

  @Test("the monitor does not touch copies in progress", arguments: SQLDialect.allCases)
  func inProgress(dialect: SQLDialect) async throws {
    try await withPlane(dialect) { plane async throws -> Void in
      let id = try await plane.create().id
      await plane.host.delay(.fork, by: .milliseconds(150))
      let fork = Task { try await plane.service.fork(id, count: 5, for: plane.caller) }
      #expect(try await eventually { try await plane.repository.alive().count == 6 })
      for _ in 0..<5 { await plane.control.monitor.tick() }
      #expect(try await fork.value.count == 5)
    }
  }

  @Test("a fork can create a hundred copies", arguments: SQLDialect.allCases)
  func hundred(dialect: SQLDialect) async throws {
    try await withPlane(dialect) { plane async throws -> Void in
      let id = try await plane.create().id
      #expect(try await plane.service.fork(id, count: 100, for: plane.caller).count == 100)
      #expect(await plane.host.slots.taken.count == 101)
    }
  }
}
