import ControlPlane
import Foundation
import HostAPI
import Model
import Persistence
import TestSupport
import Testing

@Suite(.serialized, .bothLinks) struct LifecycleTests {
  @Test("a created sandbox runs, with the values that its host reported", arguments: SQLDialect.allCases)
  func create(dialect: SQLDialect) async throws {
    try await withPlane(dialect) { plane async throws -> Void in
      let record = try await plane.create { $0.metadata = ["a": "b"] }
      #expect(record.status == .running)
      #expect(record.facts.vmm == "simulated")
      #expect(record.facts.hostID == plane.host.hostID)
      #expect(try await plane.service.sandbox(record.id, for: plane.caller) == record)
    }
  }

  @Test("a template that no host has is not found, and leaves no row", arguments: SQLDialect.allCases)
  func unknownTemplate(dialect: SQLDialect) async throws {
    try await withPlane(dialect) { plane async throws -> Void in
      let name = try SafeName("nope")
      #expect(await code { _ = try await plane.create { $0.template = name } } == .notFound)
      let filter = SandboxFilter(statuses: Set(SandboxStatus.allCases), limit: 10)
      #expect(try await plane.repository.list(filter, team: plane.caller.teamID).isEmpty)
    }
  }

  @Test("values outside of the bounds are refused before anything is written", arguments: SQLDialect.allCases)
  func bounds(dialect: SQLDialect) async throws {
    try await withPlane(dialect) { plane async throws -> Void in
      #expect(await code { _ = try await plane.create { $0.vcpus = 0 } } == .invalidRequest)
      #expect(await code { _ = try await plane.create { $0.memoryMiB = -1 } } == .invalidRequest)
      #expect(try await plane.repository.alive().isEmpty)
    }
  }

  @Test(
    "a create that fails leaves status error with the reason, and nothing on the host", arguments: SQLDialect.allCases)
  func createFails(dialect: SQLDialect) async throws {
    try await withPlane(dialect) { plane async throws -> Void in
      await plane.host.fail(.create, with: MartletError(.insufficientStorage, "the disk is full"))
      #expect(await code { _ = try await plane.create() } == .insufficientStorage)
      let filter = SandboxFilter(statuses: [.error], limit: 10)
      let records = try await plane.repository.list(filter, team: plane.caller.teamID)
      #expect(records.map(\.error) == ["the disk is full"])
      #expect(await plane.host.sandboxes.isEmpty)
      #expect(await plane.host.destroyCalls == 1)
    }
  }

  @Test("a client that disconnects does not stop a creation", arguments: SQLDialect.allCases)
  func hangUp(dialect: SQLDialect) async throws {
    try await withPlane(dialect) { plane async throws -> Void in
      await plane.host.delay(.create, by: .milliseconds(100))
      let task = Task { try await plane.create() }
      while try await plane.repository.alive().isEmpty { try await Task.sleep(for: .milliseconds(2)) }
      task.cancel()
      let id = try #require(try await plane.repository.alive().first).id
      while try await plane.status(id) != .running { try await Task.sleep(for: .milliseconds(5)) }
      #expect(await plane.host.sandboxes[id] != nil)
    }
  }

  @Test("destroy is idempotent, and a destroyed sandbox still has the state stopped", arguments: SQLDialect.allCases)
  func destroy(dialect: SQLDialect) async throws {
    try await withPlane(dialect) { plane async throws -> Void in
      let record = try await plane.create()
      try await plane.service.destroy(record.id, for: plane.caller)
      try await plane.service.destroy(record.id, for: plane.caller)
      #expect(try await plane.service.sandbox(record.id, for: plane.caller).status == .stopped)
      #expect(await plane.host.sandboxes.isEmpty)
      #expect(await plane.host.destroyCalls == 1)
      #expect(await code { try await plane.service.destroy(SandboxID(), for: plane.caller) } == .notFound)
    }
  }

  @Test("destroy takes precedence over a creation in progress, and leaves nothing", arguments: SQLDialect.allCases)
  func destroyDuringCreate(dialect: SQLDialect) async throws {
    try await withPlane(dialect) { plane async throws -> Void in
      await plane.host.delay(.create, by: .milliseconds(800))
      let creation = Task { try await plane.create() }
      var id: SandboxID?
      while id == nil {
        id = try await plane.repository.alive().first { $0.status == .starting }?.id
        try await Task.sleep(for: .milliseconds(2))
      }
      let found = try #require(id)
      try await plane.service.destroy(found, for: plane.caller)
      #expect(try await plane.status(found) == .stopped)
      #expect(await result(creation) == "invalid_state")
      #expect(await plane.host.sandboxes.isEmpty)
      #expect(try await plane.status(found) == .stopped)
    }
  }

  @Test("destroy succeeds in every state", arguments: SandboxStatus.allCases, SQLDialect.allCases)
  func destroyFrom(status: SandboxStatus, dialect: SQLDialect) async throws {
    try await withPlane(dialect) { plane async throws -> Void in
      let record = try await plane.leaveRow(status)
      try await plane.service.destroy(record.id, for: plane.caller)
      #expect(try await plane.status(record.id) == .stopped)
    }
  }

  @Test("of many racing destroys all succeed", arguments: SQLDialect.allCases)
  func racingDestroys(dialect: SQLDialect) async throws {
    try await withPlane(dialect) { plane async throws -> Void in
      let record = try await plane.create()
      try await withThrowingTaskGroup(of: Void.self) { group in
        for _ in 0..<10 { group.addTask { try await plane.service.destroy(record.id, for: plane.caller) } }
        try await group.waitForAll()
      }
      #expect(try await plane.status(record.id) == .stopped)
    }
  }

  @Test("a destroy during an outage of the host is finished when the host is back", arguments: SQLDialect.allCases)
  func destroyWithoutHost(dialect: SQLDialect) async throws {
    try await withPlane(dialect) { plane async throws -> Void in
      let record = try await plane.create()
      await plane.host.fail(.destroy, with: MartletError(.hostUnavailable, "away"))
      try await plane.service.destroy(record.id, for: plane.caller)
      #expect(try await plane.status(record.id) == .destroying)
      await plane.host.fail(.destroy, with: nil)
      #expect(try await plane.reconcile { try await plane.status(record.id) == .stopped })
      #expect(await plane.host.sandboxes.isEmpty)
    }
  }

  @Test("another team's sandbox is not found on any verb", arguments: SQLDialect.allCases)
  func teamScope(dialect: SQLDialect) async throws {
    try await withPlane(dialect) { plane async throws -> Void in
      let id = try await plane.create().id
      let outsider = Caller(principal: Principal(kind: .user(UserID()), teamID: TeamID()))
      let file = try GuestFile(path: "/x")
      let service = plane.service
      #expect(await code { _ = try await service.sandbox(id, for: outsider) } == .notFound)
      #expect(await code { try await service.destroy(id, for: outsider) } == .notFound)
      #expect(
        await code { _ = try await service.exec(ProcessRequest(command: "echo"), in: id, for: outsider) } == .notFound)
      #expect(await code { _ = try await service.listProcesses(in: id, for: outsider) } == .notFound)
      #expect(await code { _ = try await service.read(file, in: id, for: outsider) } == .notFound)
      #expect(await code { _ = try await service.fileTarget(in: id, for: outsider) } == .notFound)
      #expect(await code { _ = try await service.metrics(of: id, for: outsider) } == .notFound)
    }
  }

  @Test("every lifecycle change is in the audit log, with its outcome", arguments: SQLDialect.allCases)
  func auditLog(dialect: SQLDialect) async throws {
    try await withPlane(dialect) { plane async throws -> Void in
      let record = try await plane.create()
      _ = try await plane.service.exec(ProcessRequest(command: "echo"), in: record.id, for: plane.caller)
      try await plane.service.destroy(record.id, for: plane.caller)
      await plane.control.housekeeping.flush()
      let log = try await AuditRepository(database: plane.database).list(team: plane.caller.teamID, limit: 100)
      let lines = log.map { "\($0.record.action) \($0.record.outcome)" }
      for line in [
        "sandbox.create accepted", "sandbox.create ok", "process.exec ok", "sandbox.destroy accepted",
        "sandbox.destroy ok",
      ] {
        #expect(lines.contains(line))
      }
    }
  }

  private func result(_ creation: Task<SandboxRecord, any Error>) async -> String {
    do {
      return try await creation.value.status.rawValue
    } catch {
      return (error as? MartletError)?.code.rawValue ?? "\(error)"
    }
  }
}
