import Foundation
import Model
import Persistence
import Testing

@Suite struct RetentionTests {
  private let now = Date(timeIntervalSince1970: 1_700_000_000)

  private func row(_ team: TeamID, _ action: String, age: TimeInterval) -> AuditRecord {
    var row = audit(team, action)
    row.createdAt = now.addingTimeInterval(-age)
    return row
  }

  @Test("old audit rows are deleted in batches, newer ones stay", arguments: SQLDialect.allCases)
  func auditLog(dialect: SQLDialect) async throws {
    try await withDatabase(dialect) { database async throws -> Void in
      let (team, log) = (TeamID(), AuditRepository(database: database))
      let count = AuditRepository.retentionBatch + 20
      try await log.append((0..<count).map { _ in row(team, "old", age: 100) } + [row(team, "new", age: 10)])
      #expect(try await log.delete(before: now.addingTimeInterval(-1_000)) == 0)
      let cutoff = now.addingTimeInterval(-50)
      #expect(try await log.delete(before: cutoff) == AuditRepository.retentionBatch)
      #expect(try await log.delete(before: cutoff) == 20)
      #expect(try await log.delete(before: cutoff) == 0)
      #expect(try await log.list(team: team, limit: 10).map(\.record.action) == ["new"])
    }
  }

  @Test("only sandboxes that ended long ago are deleted", arguments: SQLDialect.allCases)
  func sandboxes(dialect: SQLDialect) async throws {
    try await withDatabase(dialect) { database async throws -> Void in
      let team = try await makeTeam(database)
      let repository = SandboxRepository(database: database)
      var kept: Set<SandboxID> = []
      for status in SandboxStatus.allCases {
        for age in [10.0, 100] {
          let record = SandboxRecord(
            spec: SandboxSpec(teamID: team), status: status, createdAt: now.addingTimeInterval(-age))
          try await repository.insert(record, audit: audit(team))
          if age < 50 || ![.stopped, .error].contains(status) { kept.insert(record.id) }
        }
      }
      let cutoff = now.addingTimeInterval(-50)
      #expect(try await repository.deleteFinished(before: cutoff) == 2)
      #expect(try await repository.deleteFinished(before: cutoff) == 0)
      let all = SandboxFilter(statuses: Set(SandboxStatus.allCases), limit: 100)
      #expect(Set(try await repository.list(all, team: team).map(\.id)) == kept)
    }
  }

  @Test("a slow search of the audit log is cancelled, and the connection is restored")
  func slowSearch() async throws {
    try await withDatabase(.postgresql) { database async throws -> Void in
      try await database.migrate { connection in
        try connection.executeScript(
          """
          ALTER TABLE audit_logs RENAME TO rows;
          CREATE VIEW audit_logs AS SELECT rows.* FROM rows, LATERAL (SELECT pg_sleep(60)) AS slow;
          """)
        try connection.execute(
          "INSERT INTO rows (team_id, actor_type, actor_id, action, target_type, target_id, outcome, created_at) "
            + "VALUES (?, 'a', 'b', 'c', 'd', 'e', 'ok', now())", [.uuid(TeamID.platform.uuid)])
      }
      let log = AuditRepository(database: database)
      let error = await #expect(throws: PersistenceError.self) { try await log.list(team: .platform, limit: 1).count }
      #expect(error?.isUnavailable == true)
      let limit = try await database.query { try $0.row("SHOW statement_timeout", [])?.text(0) }
      #expect(limit == "30s")
    }
  }
}
