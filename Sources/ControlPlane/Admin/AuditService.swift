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
  private let secret: TokenSecret

  init(repository: AuditRepository, secret: TokenSecret) {
    self.repository = repository
    self.secret = secret
  }

  /// Newest first.
  /// - Parameters:
  ///   - cursor: id of the last entry of the previous page.
  ///   - team: a team other than the caller's; only for administrators of the platform.
  /// - Throws: `invalid_request` for a cursor that is not an id of the team; `not_found` if `team` is given and the
  ///   caller is not an administrator.
  package func list(
    _ filter: AuditFilter, after cursor: String? = nil, team: TeamID? = nil, for caller: Caller
  ) async throws -> [(id: String, record: AuditRecord)] {
    _ = try caller.user()
    if let team, team != caller.teamID {
      guard caller.principal.isAdmin else { throw MartletError.teamNotFound(team) }
      return try await search(team, filter, cursor)
    }
    try caller.principal.requireTeam()
    return try await search(caller.teamID, filter, cursor)
  }

  private func search(
    _ team: TeamID, _ filter: AuditFilter, _ cursor: String?
  ) async throws -> [(id: String, record: AuditRecord)] {
    let ids = AuditEntryIDs(secret: secret, team: team)
    var filter = filter
    if let cursor { filter.before = try ids.number(of: cursor) }
    let page = filter
    let rows = try await searches.withPermit { try await repository.list(team: team, page) }
    return rows.map { (ids.id(of: $0.number), $0.record) }
  }
}
