package import Foundation
package import Model

extension SandboxRepository {
  /// Upper bound on returned samples, more than one per minute for a week.
  private static let maximumSamples = 20_000

  /// Inserts a sample of the running sandboxes of every team. Idempotent per time.
  package func insertUsageSamples(at time: Date) async throws {
    try await database.write { connection in
      // Aggregates here: with GROUP BY SQLite would also read finished sandboxes, in the order of another index.
      let rows = try connection.rows(
        "SELECT team_id, status, vcpus, memory_mb FROM sandboxes WHERE status NOT IN ('stopped', 'error')")
      for (team, sample) in try Self.samples(rows, at: time) {
        try connection.execute(
          """
          INSERT INTO usage_samples (team_id, taken_at, running, vcpus, memory_mb) VALUES (?, ?, ?, ?, ?) \
          ON CONFLICT (team_id, taken_at) DO NOTHING
          """,
          [
            .uuid(team), .timestamp(sample.takenAt), .integer(sample.running), .integer(sample.vcpus),
            .integer(sample.memoryMiB),
          ])
      }
    }
  }

  /// Oldest first.
  package func usageSamples(of team: TeamID, since time: Date) async throws -> [UsageSample] {
    try await database.query { connection in
      try connection.rows(
        """
        SELECT taken_at, running, vcpus, memory_mb FROM usage_samples WHERE team_id = ? AND taken_at >= ? \
        ORDER BY taken_at LIMIT \(Self.maximumSamples)
        """,
        [.uuid(team.uuid), .timestamp(time)]
      ).map { row in
        UsageSample(
          takenAt: try row.date(0), running: try row.integer(1), vcpus: try row.integer(2),
          memoryMiB: try row.integer(3))
      }
    }
  }

  package func deleteUsageSamples(before time: Date) async throws {
    try await database.write { connection in
      _ = try connection.execute("DELETE FROM usage_samples WHERE taken_at < ?", [.timestamp(time)])
    }
  }

  private static func samples(_ rows: [SQLRow], at time: Date) throws -> [UUID: UsageSample] {
    var samples: [UUID: UsageSample] = [:]
    for row in rows {
      guard let status = SandboxStatus(rawValue: try row.text(1)), activeStatuses.contains(status) else { continue }
      var sample = samples[try row.uuid(0)] ?? UsageSample(takenAt: time, running: 0, vcpus: 0, memoryMiB: 0)
      sample.running += 1
      sample.vcpus += try row.integer(2)
      sample.memoryMiB += try row.integer(3)
      samples[try row.uuid(0)] = sample
    }
    return samples
  }
}
