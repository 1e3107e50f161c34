package import Foundation
package import Model

extension SandboxRepository {
  /// Upper bound on returned samples, more than one per minute for a day plus one per quarter of an hour for a week.
  private static let maximumLoadSamples = 5_000

  /// Inserts load samples. Idempotent per sandbox and time.
  package func insertLoad(_ samples: [SandboxID: LoadSample]) async throws {
    guard !samples.isEmpty else { return }
    try await database.write { connection in
      for (id, sample) in samples {
        try connection.execute(
          """
          INSERT INTO sandbox_load (sandbox_id, taken_at, cpu_millipercent, memory_bytes, memory_total_bytes, \
          disk_bytes, disk_total_bytes, is_quarterly) \
          VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (sandbox_id, taken_at) DO NOTHING
          """,
          [
            .uuid(id.uuid), .timestamp(sample.takenAt), .integer(sample.cpuMillipercent), .integer(sample.memoryBytes),
            .integer(sample.memoryTotalBytes), .integer(sample.diskBytes), .integer(sample.diskTotalBytes),
            .bool(sample.isCoarse),
          ])
      }
    }
  }

  /// Oldest first.
  package func load(of id: SandboxID, since time: Date) async throws -> [LoadSample] {
    try await database.query { connection in
      try connection.rows(
        """
        SELECT taken_at, cpu_millipercent, memory_bytes, memory_total_bytes, disk_bytes, disk_total_bytes \
        FROM sandbox_load WHERE sandbox_id = ? AND taken_at >= ? \
        ORDER BY taken_at LIMIT \(Self.maximumLoadSamples)
        """,
        [.uuid(id.uuid), .timestamp(time)]
      ).map { row in
        LoadSample(
          takenAt: try row.date(0), cpuPercent: Double(try row.integer(1)) / 1_000,
          memoryBytes: Int64(try row.integer(2)),
          memoryTotalBytes: Int64(try row.integer(3)), diskBytes: Int64(try row.integer(4)),
          diskTotalBytes: Int64(try row.integer(5)))
      }
    }
  }

  /// Deletes old load samples.
  /// - Parameters:
  ///   - coarse: the time before which samples at the start of a `LoadSample.coarseInterval` are deleted.
  ///   - fine: the same for all other samples.
  package func deleteLoad(before coarse: Date, fine: Date) async throws {
    try await database.write { connection in
      for (isCoarse, time) in [(true, coarse), (false, fine)] {
        try connection.execute(
          "DELETE FROM sandbox_load WHERE is_quarterly = ? AND taken_at < ?", [.bool(isCoarse), .timestamp(time)])
      }
    }
  }
}
