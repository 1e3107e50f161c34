import Foundation
import Model
import Persistence
import TestSupport
import Testing

@testable import ControlPlane

@Suite(.serialized) struct SandboxAdmissionTests {
  private func create(_ plane: Plane, key: String?, vcpus: Int = 1) async throws -> SandboxRecord {
    var new = NewSandbox()
    new.vcpus = vcpus
    return try await plane.service.create(new, for: plane.caller, idempotencyKey: key).record
  }

  @Test(
    "beyond the quota a create is refused with a sentence and leaves nothing; a destroy frees quota",
    arguments: SQLDialect.allCases)
  func quota(dialect: SQLDialect) async throws {
    var identity = IdentityConfiguration.forTests
    identity.quota = QuotaRecord(sandboxes: 2)
    try await withPlane(dialect, identity: identity) { plane async throws -> Void in
      let first = try await plane.create()
      _ = try await plane.create()
      do {
        _ = try await plane.create()
        Issue.record("the third was admitted")
      } catch let error as MartletError {
        #expect(error.code == .quotaExceeded && error.message.contains("max_sandboxes is 2"))
      }
      #expect(await plane.host.sandboxes.count == 2)
      try await plane.service.destroy(first.id, for: plane.caller)
      _ = try await plane.create()
    }
  }

  @Test("resumes and forks beyond the quota are refused and change nothing", arguments: SQLDialect.allCases)
  func quotaOfResumeAndFork(dialect: SQLDialect) async throws {
    var identity = IdentityConfiguration.forTests
    identity.quota = QuotaRecord(sandboxes: 2)
    try await withPlane(dialect, identity: identity) { plane async throws -> Void in
      let first = try await plane.create()
      _ = try await plane.service.pause(first.id, for: plane.caller)
      let second = try await plane.create()
      #expect(await code { _ = try await plane.service.fork(second.id, count: 2, for: plane.caller) } == .quotaExceeded)
      #expect(await plane.host.sandboxes.count == 2)
      _ = try await plane.create()
      #expect(await code { _ = try await plane.service.resume(first.id, for: plane.caller) } == .quotaExceeded)
      #expect(try await plane.status(first.id) == .paused)
      try await plane.service.destroy(second.id, for: plane.caller)
      #expect(try await plane.service.resume(first.id, for: plane.caller).record.status == .running)
    }
  }

  @Test(
    "same key and request yield the same sandbox, a different request a conflict, another team another sandbox",
    arguments: SQLDialect.allCases
  )
  func repetition(dialect: SQLDialect) async throws {
    try await withPlane(dialect) { plane async throws -> Void in
      let first = try await create(plane, key: "k1")
      #expect(try await create(plane, key: "k1").id == first.id)
      #expect(await plane.host.sandboxes.count == 1)
      #expect(await code { _ = try await create(plane, key: "k1", vcpus: 2) } == .idempotencyConflict)
      #expect(try await create(plane, key: "k2").id != first.id)
      #expect(try await create(plane, key: nil).id != first.id)
      let (_, caller) = try await plane.signUp("a@b.c")
      let theirs = try await plane.service.create(NewSandbox(), for: caller, idempotencyKey: "k1").record
      #expect(theirs.id != first.id)
      plane.clock.advance(by: Quotas.repetitionWindow + 1)
      #expect(try await create(plane, key: "k1").id != first.id)
    }
  }

  @Test("concurrent repetitions wait for the first request's sandbox", arguments: SQLDialect.allCases)
  func concurrent(dialect: SQLDialect) async throws {
    try await withPlane(dialect) { plane async throws -> Void in
      await plane.host.delay(.create, by: .milliseconds(200))
      let ids = try await withThrowingTaskGroup(of: SandboxID.self) { group in
        for _ in 0..<8 { group.addTask { try await create(plane, key: "same").id } }
        return try await group.reduce(into: Set<SandboxID>()) { $0.insert($1) }
      }
      #expect(ids.count == 1)
      #expect(await plane.host.sandboxes.count == 1)
    }
  }

  @Test("a repetition of a failed creation creates a sandbox", arguments: SQLDialect.allCases)
  func failure(dialect: SQLDialect) async throws {
    try await withPlane(dialect) { plane async throws -> Void in
      await plane.host.fail(.create, with: MartletError(.insufficientStorage, "full"))
      #expect(await code { _ = try await create(plane, key: "k") } == .insufficientStorage)
      await plane.host.fail(.create, with: nil)
      #expect(try await create(plane, key: "k").status == .running)
    }
  }

  @Test(
    "so does one after the failed sandbox was destroyed; a sandbox that ran and was destroyed is returned",
    arguments: SQLDialect.allCases
  )
  func failureCleanedUp(dialect: SQLDialect) async throws {
    try await withPlane(dialect) { plane async throws -> Void in
      await plane.host.fail(.create, with: MartletError(.insufficientStorage, "full"))
      #expect(await code { _ = try await create(plane, key: "k") } == .insufficientStorage)
      await plane.host.fail(.create, with: nil)
      let failed = try #require(
        try await plane.repository.list(SandboxFilter(statuses: [.error], limit: 1), team: plane.caller.teamID).first)
      try await plane.service.destroy(failed.id, for: plane.caller)
      let made = try await create(plane, key: "k")
      #expect(made.status == .running && made.id != failed.id)
      try await plane.service.destroy(made.id, for: plane.caller)
      #expect(try await create(plane, key: "k").id == made.id)
    }
  }

  @Test(
    "a key with characters that headers must not contain is refused",
    arguments: ["", "a b", "ü", "a\n", String(repeating: "x", count: 256)],
    SQLDialect.allCases)
  func badKeys(_ key: String, _ dialect: SQLDialect) async throws {
    try await withPlane(dialect) { plane async throws -> Void in
      #expect(await code { _ = try await create(plane, key: key) } == .invalidRequest)
    }
  }
}
