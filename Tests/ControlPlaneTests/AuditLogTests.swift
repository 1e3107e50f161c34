import Concurrency
import Foundation
import Logging
import Model
import Persistence
import TestSupport
import Testing

@testable import ControlPlane

@Suite struct AuditLogTests {
  private func row(_ team: TeamID, _ number: Int, target: String = "x") -> AuditRecord {
    AuditRecord(
      teamID: team, actorType: "user", actorID: "u", action: "\(number)", targetType: "sandbox", targetID: target,
      outcome: "ok",
      source: nil, createdAt: Date())
  }

  private func withLog(
    _ dialect: SQLDialect,
    _ body: (_ log: AuditLog, _ database: FaultyDatabase, _ written: AuditRepository) async throws -> Void
  ) async throws {
    try await withTestDatabase(dialect) { database, _ async throws -> Void in
      let faulty = FaultyDatabase(database)
      var logger = Logger(label: "test")
      logger.logLevel = .critical
      let log = AuditLog(repository: AuditRepository(database: faulty), dependencies: Dependencies(logger: logger))
      try await body(log, faulty, AuditRepository(database: database))
    }
  }

  @Test("many rows are written in order, a few hundred per transaction", arguments: SQLDialect.allCases)
  func order(dialect: SQLDialect) async throws {
    try await withLog(dialect) { log, database, written async throws -> Void in
      let team = TeamID()
      for number in 0..<2_345 { log.add(row(team, number)) }
      try await log.flush()
      let actions = try await written.list(team: team, limit: 10_000).map(\.record.action)
      #expect(actions == (0..<2_345).reversed().map(String.init))
      #expect(database.writes == 5)
    }
  }

  @Test("rows that could not be written are written later, once and in order", arguments: SQLDialect.allCases)
  func again(dialect: SQLDialect) async throws {
    try await withLog(dialect) { log, database, written async throws -> Void in
      let team = TeamID()
      for number in 0..<1_200 { log.add(row(team, number)) }
      database.fail { [counter = Counter()] _ in counter.next() == 2 ? .unavailable("away") : nil }
      await #expect(throws: PersistenceError.self) { try await log.flush() }
      #expect(try await written.list(team: team, limit: 10_000).count == 500)
      database.fail(nil)
      for number in 1_200..<1_300 { log.add(row(team, number)) }
      try await log.flush()
      let actions = try await written.list(team: team, limit: 10_000).map(\.record.action)
      #expect(actions == (0..<1_300).reversed().map(String.init))
    }
  }

  @Test("a row that the database rejects does not block other rows")
  func rejectedRow() async throws {
    try await withLog(.postgresql) { log, _, written async throws -> Void in
      let team = TeamID()
      for number in 0..<20 { log.add(row(team, number, target: number == 7 ? "a\0b" : "x")) }
      try await log.flush()
      #expect(try await written.list(team: team, limit: 100).count == 19)
      log.add(row(team, 20))
      try await log.flush()
      #expect(try await written.list(team: team, limit: 100).count == 20)
    }
  }

  @Test("a flush that fails does not prevent the others", arguments: SQLDialect.allCases)
  func independent(dialect: SQLDialect) async throws {
    try await withPlane(dialect) { plane async throws -> Void in
      let id = try await plane.create().id
      plane.service.activity.touch(id, at: plane.clock.now.addingTimeInterval(5))
      plane.control.sandboxes.audit.add(row(plane.caller.teamID, 0))
      try await plane.database.write { try $0.executeScript("ALTER TABLE audit_logs RENAME TO hidden") }
      await plane.control.housekeeping.flush()
      #expect(try await plane.repository.sandbox(id)?.lastActiveAt == plane.clock.now.addingTimeInterval(5))
      try await plane.database.write { try $0.executeScript("ALTER TABLE hidden RENAME TO audit_logs") }
      await plane.control.housekeeping.flush()
      #expect(
        try await AuditRepository(database: plane.database).list(team: plane.caller.teamID, limit: 1).first?.record
          .action == "0")
    }
  }
}

@Suite struct AuditBufferTests {
  private func row(_ team: TeamID) -> AuditRecord {
    AuditRecord(
      teamID: team, actorType: "user", actorID: "u", action: "a", targetType: "sandbox", targetID: "x", outcome: "ok",
      source: nil,
      createdAt: Date())
  }

  @Test("a team cannot exceed its share of the queue; written rows free space, failed ones do not")
  func shares() {
    var buffer = AuditBuffer()
    let (loud, quiet) = (TeamID(), TeamID())
    for _ in 0..<AuditBuffer.maximumPending { buffer.add(row(loud)) }
    #expect(buffer.takeDropped() == AuditBuffer.maximumPending - AuditBuffer.maximumPendingOfTeam)
    buffer.add(row(quiet))
    #expect(buffer.takeDropped() == 0)
    let batch = buffer.begin()
    #expect(batch.count == AuditBuffer.batchSize)
    buffer.add(row(loud))
    #expect(buffer.takeDropped() == 1)
    buffer.settle(batch, remaining: Array(batch.suffix(1)))
    for _ in 0..<AuditBuffer.batchSize { buffer.add(row(loud)) }
    #expect(buffer.takeDropped() == 1)
  }

  @Test("the whole queue is bounded too, and its rows are written once and in order")
  func total() {
    var buffer = AuditBuffer()
    let teams = (0..<10).map { _ in TeamID() }
    for number in 0..<AuditBuffer.maximumPending + 10 { buffer.add(row(teams[number % 10])) }
    #expect(buffer.takeDropped() == 10)
    var seen: [TeamID] = []
    while case let batch = buffer.begin(), !batch.isEmpty {
      seen += batch.map(\.teamID)
      buffer.settle(batch)
    }
    #expect(seen == (0..<AuditBuffer.maximumPending).map { teams[$0 % 10] })
  }
}

private final class Counter: Sendable {
  private let value = Mutex(0)
  func next() -> Int {
    value.withLock {
      $0 += 1; return $0
    }
  }
}
