import Concurrency
package import Model
package import Persistence

/// Gives access to the audit log.
package struct AuditService: Sendable {
  let repository: AuditRepository
  /// Bounds concurrent searches: a filter may read many rows, and searches must leave the database connections to other
  /// requests.
  private let searches = AsyncSemaphore(
    permits: 2, maximumWaiters: 32,
    queueFull: MartletError(
      .rateLimited, "too many audit log searches are running at the moment; try again", retryAfterSeconds: 2))

  init(repository: AuditRepository) {
    self.repository = repository
  }

  /// Newest first.
  /// - Parameter team: a team other than the caller's; only for administrators of the platform.
  /// - Throws: `not_found` if `team` is given and the caller is not an administrator.
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
    try await searches.withPermit { try await repository.list(team: team, filter) }
  }
}
