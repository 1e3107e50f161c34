package import Foundation
import Model

extension SandboxRepository {
  /// The number of rows that one transaction deletes.
  package static let retentionBatch = 500

  /// Deletes a batch of the oldest sandboxes that ended before `time`.
  /// - Returns: the number of deleted rows; 0 when none is left.
  package func deleteFinished(before time: Date) async throws -> Int {
    try await database.write { connection in
      try connection.execute(
        """
        DELETE FROM sandboxes WHERE id IN ( \
        SELECT id FROM sandboxes WHERE status IN ('stopped', 'error') AND last_updated < ? \
        ORDER BY last_updated LIMIT \(Self.retentionBatch))
        """,
        [.timestamp(time)])
    }
  }
}
