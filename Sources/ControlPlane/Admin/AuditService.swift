package import Model
package import Persistence

/// Reading the audit log (DB-5).
package struct AuditService: Sendable {
  let repository: AuditRepository
  /// A filter may look at many rows: those who search share few of the database's connections, and leave the others the
  /// rest.
  private let gate = Gate(
    concurrent: 2, maximumWaiting: 32,
    refusal: MartletError(
      .rateLimited, "too many people search audit logs at the moment; try again", retryAfterSeconds: 2))

  init(repository: AuditRepository) {
    self.repository = repository
  }

  /// Newest first.
  /// - Parameter team: another team than the caller's; for administrators of the platform.
  /// - Throws: `not_found` for anybody else.
  package func list(
    _ filter: AuditFilter, team: TeamID? = nil, for caller: Caller
  ) async throws -> [(number: Int, record: AuditRecord)] {
    _ = try caller.user()
    if let team, team != caller.teamID {
      guard caller.principal.isAdmin else { throw MartletError.teamNotFound(team) }
      return try await search(team, filter)
    }
    try caller.principal.requireTeam()
    return try await search(caller.teamID, filter)
  }

  private func search(_ team: TeamID, _ filter: AuditFilter) async throws -> [(number: Int, record: AuditRecord)] {
    try await gate.run { try await repository.list(team: team, filter) }
  }
}
