import Foundation
import Model
import Persistence
import TestSupport

/// A new migrated database, removed afterwards.
func withDatabase<Value>(
  _ dialect: SQLDialect = .sqlite, _ body: (any Database) async throws -> Value
) async throws -> Value {
  try await withTestDatabase(dialect) { database, _ in try await body(database) }
}

func audit(_ team: TeamID, _ action: String = "test") -> AuditRecord {
  AuditRecord(
    teamID: team, actorType: "system", actorID: "test", action: action, targetType: "sandbox", targetID: "x",
    outcome: "ok",
    source: nil, createdAt: Date())
}

func makeTeam(_ database: any Database) async throws -> TeamID {
  let team = TeamRecord(name: "team", createdAt: Date())
  try await PeopleRepository(database: database).ensureTeam(team)
  return team.id
}
