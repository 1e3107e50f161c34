import Model

extension SandboxRepository {
  /// Why the row of a quarantined sandbox is not made.
  package enum AdoptionRefusal: Error, Equatable {
    case teamIsGone
    /// A row that is not over has the id.
    case isKnown
    /// The sandbox was deleted.
    case isDeleted
  }

  /// Adds the row of a sandbox that a host holds in quarantine. A row that is over, without having been deleted, is
  /// replaced.
  /// - Throws: `AdoptionRefusal`.
  package func adopt(_ record: SandboxRecord, audit: AuditRecord) async throws {
    let parameters = try Self.parameters(record, by: database.worker)
    try await database.write { connection in
      let id = SQLValue.uuid(record.id.uuid)
      guard try TeamRepository.lock(record.teamID, connection) else { throw AdoptionRefusal.teamIsGone }
      if try connection.row("SELECT 1 FROM sandbox_tombstones WHERE sandbox_id = ?", [id]) != nil {
        throw AdoptionRefusal.isDeleted
      }
      try connection.execute("DELETE FROM sandboxes WHERE id = ? AND status IN ('stopped', 'error')", [id])
      if try connection.row("SELECT 1 FROM sandboxes WHERE id = ?", [id]) != nil { throw AdoptionRefusal.isKnown }
      try connection.execute("INSERT INTO sandboxes (\(Self.columns)) VALUES (\(Self.placeholders))", parameters)
      try AuditRepository.insert(audit, connection)
    }
  }
}
