import HostAPI
package import Model
package import Persistence

/// What administrators of the platform may see and change. The API admits only administrators here; every call checks
/// that again.
package struct AdminService: Sendable {
  /// The state of a host, for administrators.
  package struct HostSummary: Sendable, Equatable {
    package var id: HostID
    package var isReachable: Bool
    package var sandboxes: Int
    package var running: Int
  }

  let people: PeopleRepository
  let teamRepository: TeamRepository
  let sandboxRepository: SandboxRepository
  let accounts: AccountService
  let directory: any HostDirectory
  let audit: AuditLog
  let quotaDefaults: QuotaRecord
  let dependencies: Dependencies

  // MARK: Users

  /// Oldest first.
  package func users(_ page: ListPage, for caller: Caller) async throws -> [Profile] {
    try caller.principal.requireAdmin()
    return try await people.users(page).map { Profile($0) }
  }

  /// Creates a user, also if sign-up is closed.
  /// - Throws: `invalid_request`, `email_taken`.
  package func createUser(
    email: String, password: String, name: String, isAdmin: Bool, for caller: Caller
  ) async throws -> (profile: Profile, team: TeamID) {
    try caller.principal.requireAdmin()
    let account = try NewAccount(email: email, password: password, name: name, isAdmin: isAdmin)
    let (user, team) = try await accounts.create(account, by: caller, source: caller.source)
    return (Profile(user), team)
  }

  /// Creates a user without a session; for programs that have access to the database.
  package func createLocalUser(
    email: String, password: String, name: String, isAdmin: Bool
  ) async throws -> (profile: Profile, team: TeamID) {
    let account = try NewAccount(email: email, password: password, name: name, isAdmin: isAdmin)
    let (user, team) = try await accounts.create(account, by: Caller.system(.platform), source: nil)
    return (Profile(user), team)
  }

  /// - Throws: `not_found`; `invalid_state` for the last administrator.
  package func setAdmin(_ id: UserID, _ isAdmin: Bool, for caller: Caller) async throws -> Profile {
    try caller.principal.requireAdmin()
    guard var user = try await people.user(id) else { throw MartletError(.notFound, "user \(id) does not exist") }
    let record = caller.acting(in: .platform).audit(
      "user.admin", of: "user", id.wire, outcome: "ok", at: dependencies.now())
    try await audit.recordingFailure(record) { audit in
      guard try await people.setAdmin(id, isAdmin, by: try caller.actingUser(), audit: audit) else {
        throw MartletError(.invalidState, "\(id) is the last administrator; make another user an administrator first")
      }
    }
    user.isAdmin = isAdmin
    return Profile(user)
  }

  // MARK: Teams

  /// All teams, oldest first, with their present usage.
  package func teams(_ page: ListPage, for caller: Caller) async throws -> [(team: TeamRecord, usage: TeamUsage)] {
    try caller.principal.requireAdmin()
    var teams: [(team: TeamRecord, usage: TeamUsage)] = []
    for team in try await teamRepository.teams(page) {
      teams.append((team, try await sandboxRepository.usage(of: team.id)))
    }
    return teams
  }

  /// Sets a team's own quotas; nil selects the server's default.
  /// - Throws: `not_found`, `invalid_request`.
  package func setQuota(_ quota: QuotaRecord, of id: TeamID, for caller: Caller) async throws -> TeamRecord {
    try caller.principal.requireAdmin()
    for case let bound? in [quota.sandboxes, quota.vcpus, quota.memoryMiB, quota.diskMiB, quota.snapshots]
    where !Limits.quota.contains(bound) {
      throw MartletError(
        .invalidRequest, "a quota must be between \(Limits.quota.lowerBound) and \(Limits.quota.upperBound)")
    }
    let record = caller.acting(in: id).audit("team.quota", of: "team", id.wire, outcome: "ok", at: dependencies.now())
    guard try await teamRepository.setQuota(id, quota, by: try caller.actingUser(), audit: record),
      let team = try await teamRepository.team(id)
    else {
      throw MartletError.teamNotFound(id)
    }
    return team
  }

  /// The quotas that apply to a team.
  package func quota(of team: TeamRecord) -> QuotaRecord {
    QuotaRecord(
      sandboxes: team.quota.sandboxes ?? quotaDefaults.sandboxes, vcpus: team.quota.vcpus ?? quotaDefaults.vcpus,
      memoryMiB: team.quota.memoryMiB ?? quotaDefaults.memoryMiB, diskMiB: team.quota.diskMiB ?? quotaDefaults.diskMiB,
      snapshots: team.quota.snapshots ?? quotaDefaults.snapshots)
  }
}
