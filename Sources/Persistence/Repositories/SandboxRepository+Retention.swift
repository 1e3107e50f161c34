package import Foundation
import Model

extension SandboxRepository {
  /// Rows that are deleted in one transaction.
  package static let retentionBatch = 500

  /// Deletes sandboxes that were over before `time`, the oldest few.
  /// - Returns: how many; 0 when none is left.
  package func forgetFinished(before time: Date) async throws -> Int {
    try await database.write { connection in
      try connection.execute(
        """
        DELETE FROM sandboxes WHERE id IN (SELECT id FROM sandboxes WHERE status IN ('stopped', 'error') AND last_updated < ? \
        ORDER BY last_updated LIMIT \(Self.retentionBatch))
        """,
        [.timestamp(time)])
    }
  }
}
