import ControlPlane
import Foundation
import Model
import Persistence
import TestSupport
import Testing

/// The database becomes unavailable during an operation.
@Suite(.serialized) struct DatabaseAwayTests {
  private func withFaults(_ dialect: SQLDialect, _ body: (Plane, FaultyDatabase) async throws -> Void) async throws {
    try await withTestDatabase(dialect) { database, _ async throws -> Void in
      let clock = TestClock()
      let team = TeamRecord(name: "team", createdAt: clock.now)
      try await PeopleRepository(database: database).ensureTeam(team)
      let faulty = FaultyDatabase(database)
      let plane = Plane(database: faulty, host: SimulatedHost(), clock: clock, team: team.id)
      await plane.settle()
      try await body(plane, faulty)
    }
  }

  private func onlySandbox(_ plane: Plane) async throws -> SandboxRecord {
    try #require(try await plane.repository.alive().first)
  }

  @Test(
    "after the row was written a create that cannot be recorded is outcome_unknown and names the sandbox",
    arguments: SQLDialect.allCases)
  func createNotRecorded(dialect: SQLDialect) async throws {
    try await withFaults(dialect) { plane, database async throws -> Void in
      await plane.host.delay(.create, by: .milliseconds(200))
      let creation = Task { try await plane.create() }
      #expect(try await eventually { try await plane.repository.alive().first?.status == .starting })
      let id = try await onlySandbox(plane).id
      database.fail { $0 == .writing ? .unavailable("away") : nil }
      let error = await #expect(throws: MartletError.self) { _ = try await creation.value }
      #expect(error?.code == .outcomeUnknown && error?.message.contains("\(id)") == true)
      database.fail(nil)
      #expect(try await plane.reconcile { try await plane.status(id) == .running })
    }
  }

  @Test("if only reading the row back fails, the result is what was written", arguments: SQLDialect.allCases)
  func createNotRead(dialect: SQLDialect) async throws {
    try await withFaults(dialect) { plane, database async throws -> Void in
      await plane.host.delay(.create, by: .milliseconds(200))
      let creation = Task { try await plane.create { $0.metadata = ["a": "b"] } }
      #expect(try await eventually { try await plane.repository.alive().first?.status == .starting })
      database.fail { $0 == .reading ? .unavailable("away") : nil }
      var answer = try await creation.value
      database.fail(nil)
      // The worker is set by the database only.
      answer.worker = database.worker
      #expect(try await plane.repository.sandbox(answer.id) == answer)
      let copies = try await plane.service.fork(answer.id, count: 1, for: plane.caller)
      #expect(copies.count == 1)
    }
  }

  @Test(
    "a create whose row was not written fails as unavailable, and has changed nothing", arguments: SQLDialect.allCases)
  func createNotAdmitted(dialect: SQLDialect) async throws {
    try await withFaults(dialect) { plane, database async throws -> Void in
      database.fail { $0 == .writing ? .unavailable("away") : nil }
      #expect(await code { _ = try await plane.create() } == .databaseUnavailable)
      database.fail { $0 == .writing ? .outcomeUnknown("broke") : nil }
      #expect(await code { _ = try await plane.create() } == .outcomeUnknown)
      database.fail(nil)
      #expect(try await plane.repository.alive().isEmpty)
      #expect(await plane.host.sandboxes.isEmpty)
    }
  }
}
