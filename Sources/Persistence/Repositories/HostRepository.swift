package import Foundation
package import Model

/// Stores the hosts that control planes can reach.
package struct HostRepository: Sendable {
  private let database: any Database

  package init(database: any Database) {
    self.database = database
  }

  package func host(_ id: HostID) async throws -> HostRecord? {
    try await database.lookUp(Self.byID, [.uuid(id.uuid)]).map(Self.record)
  }

  /// All hosts, ordered by id.
  package func all() async throws -> [HostRecord] {
    try await database.query { try $0.rows("SELECT \(Self.columns) FROM hosts ORDER BY id").map(Self.record) }
  }

  /// Inserts a host, or replaces its address, secret and heartbeat; the time of its first registration is kept.
  package func register(_ record: HostRecord) async throws {
    _ = try await database.write { connection in
      try connection.execute(
        """
        INSERT INTO hosts (\(Self.columns)) VALUES (?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET \
        address = excluded.address, secret = excluded.secret, last_heartbeat = excluded.last_heartbeat
        """,
        [
          .uuid(record.id.uuid), .text(record.address), .blob(record.secret), .timestamp(record.registeredAt),
          .timestamp(record.lastHeartbeat),
        ])
    }
  }

  /// Updates the heartbeat of the host that registered with this secret.
  /// - Returns: false when the host is not registered, or was registered again with another secret.
  package func renew(_ id: HostID, secret: [UInt8], at time: Date) async throws -> Bool {
    try await database.write { connection in
      try connection.execute(
        "UPDATE hosts SET last_heartbeat = ? WHERE id = ? AND secret = ?",
        [.timestamp(time), .uuid(id.uuid), .blob(secret)]) == 1
    }
  }

  /// Deletes a host's row, unless the host has registered again with another secret.
  /// - Returns: whether a row was deleted.
  @discardableResult
  package func delete(_ id: HostID, secret: [UInt8]) async throws -> Bool {
    try await database.write { connection in
      try connection.execute("DELETE FROM hosts WHERE id = ? AND secret = ?", [.uuid(id.uuid), .blob(secret)]) == 1
    }
  }

  private static let columns = "id, address, secret, registered_at, last_heartbeat"
  private static let byID = "SELECT \(columns) FROM hosts WHERE id = ?"

  private static func record(_ row: SQLRow) throws -> HostRecord {
    HostRecord(
      id: HostID(try row.uuid(0)), address: try row.text(1), secret: try row.blob(2), registeredAt: try row.date(3),
      lastHeartbeat: try row.date(4))
  }
}
