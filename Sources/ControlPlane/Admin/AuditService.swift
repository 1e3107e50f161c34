package import Model
package import Persistence

/// Reading the audit log (DB-5).
package struct AuditService: Sendable {
  let repository: AuditRepository

  /// Newest first.
  /// - Parameter team: another team than the caller's; for administrators of the platform.
  /// - Throws: `not_found` for anybody else.
  package func list(
    _ filter: AuditFilter, team: TeamID? = nil, for caller: Caller
  ) async throws -> [(number: Int, record: AuditRecord)] {
    _ = try caller.user()
    if let team, team != caller.teamID {
      guard caller.principal.isAdmin else { throw MartletError.teamNotFound(team) }
      return try await repository.list(team: team, filter)
    }
    try caller.principal.requireTeam()
    return try await repository.list(team: caller.teamID, filter)
  }
}
