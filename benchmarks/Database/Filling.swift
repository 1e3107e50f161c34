import Foundation
import Model
import Persistence

/// The rows that a platform accumulates: most sandboxes are finished, half of them belong to the measured team.
enum Filling {
  static let sandboxes = 100_000
  static let auditRows = 1_000_000
  static let otherTeams = 100

  static func fill(_ database: any Database, _ team: TeamID) async throws {
    let people = PeopleRepository(database: database)
    try await people.ensureTeam(TeamRecord(id: team, name: "measured", createdAt: Date()))
    let others = (0..<otherTeams).map { _ in TeamID() }
    for other in others { try await people.ensureTeam(TeamRecord(id: other, name: "other", createdAt: Date())) }
    let text = SQLText(dialect: database.dialect)
    try await database.migrate { connection in
      try connection.executeScript(text.sandboxes(count: sandboxes, of: team, and: others))
      try connection.executeScript(text.auditRows(count: auditRows, of: team, and: others))
      try connection.executeScript("ANALYZE")
    }
  }
}

/// SQL statements that insert many rows, in both dialects.
private struct SQLText {
  let dialect: SQLDialect

  func sandboxes(count: Int, of team: TeamID, and others: [TeamID]) -> String {
    """
    INSERT INTO sandboxes (id, team_id, status, template, vcpus, memory_mb, disk_size_mb, timeout_sec, metadata, envs,
      network, is_secured, host_id, created_at, last_updated)
    SELECT \(randomID), \(teamID(team, others)),
      CASE WHEN n % 100 = 1 THEN 'running' WHEN n % 100 = 2 THEN 'error' ELSE 'stopped' END,
      'minimal', 1, 512, 5120, 0, '{"n":"1"}', '{}', '{}', \(truth), \(randomID), \(time), \(time)
    FROM \(numbers(count))
    """
  }

  func auditRows(count: Int, of team: TeamID, and others: [TeamID]) -> String {
    """
    INSERT INTO audit_logs (team_id, actor_type, actor_id, action, target_type, target_id, outcome, source, created_at)
    SELECT \(teamID(team, others)), 'api_key', 'key-x', 'process.exec', 'sandbox', 'sb-x', 'ok', '127.0.0.1', \(time)
    FROM \(numbers(count))
    """
  }

  /// Every other row belongs to `team`.
  private func teamID(_ team: TeamID, _ others: [TeamID]) -> String {
    let choices = others.enumerated().map { "WHEN \($0.offset) THEN \(literal($0.element))" }.joined(separator: " ")
    return "CASE WHEN n % 2 = 0 THEN \(literal(team)) ELSE CASE (n / 2) % \(others.count) \(choices) END END"
  }

  private func literal(_ team: TeamID) -> String {
    let text = "'\(team.uuid.uuidString.lowercased())'"
    return dialect == .sqlite ? text : "\(text)::uuid"
  }

  /// Times one second apart, back from now.
  private var time: String {
    switch dialect {
    case .sqlite: "(unixepoch() - n) * 1000000"
    case .postgresql: "now() - n * interval '1 second'"
    }
  }

  private var truth: String { dialect == .sqlite ? "1" : "true" }

  private var randomID: String {
    switch dialect {
    case .sqlite:
      "lower(hex(randomblob(4)) || '-' || hex(randomblob(2)) || '-' || hex(randomblob(2)) || '-' "
        + "|| hex(randomblob(2)) || '-' || hex(randomblob(6)))"
    case .postgresql: "gen_random_uuid()"
    }
  }

  private func numbers(_ count: Int) -> String {
    switch dialect {
    case .sqlite: "(WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r LIMIT \(count)) SELECT n FROM r)"
    case .postgresql: "generate_series(1, \(count)) AS r(n)"
    }
  }
}
