import Foundation
import Model
import Persistence

/// A migrated database in a directory of its own, removed afterwards.
func withDatabase<Value>(_ body: (any Database) async throws -> Value) async throws -> Value {
  let directory = FileManager.default.temporaryDirectory.appendingPathComponent("martlet-\(UUID().uuidString)")
  try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
  defer { try? FileManager.default.removeItem(at: directory) }
  let database = try SQLiteDatabase(path: directory.appendingPathComponent("martlet.db").path)
  try await Migrator(database: database).migrateUp()
  let value = try await body(database)
  try await database.close()
  return value
}

func audit(_ team: TeamID, _ action: String = "test") -> AuditRecord {
  AuditRecord(
    teamID: team, actorType: "system", actorID: "test", action: action, targetType: "sandbox", targetID: "x", outcome: "ok",
    source: nil, createdAt: Date())
}

func makeTeam(_ database: any Database) async throws -> TeamID {
  let team = TeamRecord(name: "team", createdAt: Date())
  try await PeopleRepository(database: database).ensureTeam(team)
  return team.id
}
