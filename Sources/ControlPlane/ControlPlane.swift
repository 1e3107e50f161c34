import Concurrency
package import Model
package import Persistence
package import ServiceLifecycle

/// The services of one control plane: those that the API calls, and those that run in the background.
package struct ControlPlane: Sendable {
  package let sandboxes: SandboxService
  package let snapshots: SnapshotService
  package let metrics: PlaneMetrics
  package let authenticator: Authenticator
  package let leadership: Leadership
  package let accounts: AccountService
  package let teams: TeamService
  package let apiKeys: APIKeyService
  package let auditLogs: AuditService
  package let admin: AdminService
  package let monitor: Monitor
  package let housekeeping: Housekeeping
  package let quarantine: QuarantineService

  /// - Parameters:
  ///   - database: a migrated database.
  ///   - installation: the one that `hosts` belong to; nil for the one that the database names.
  package init(
    database: any Database, hosts: any HostDirectory, scheduler: any Scheduler = RoundRobinScheduler(),
    identity: IdentityConfiguration = IdentityConfiguration(), retention: Retention = .standard,
    installation: InstallationID? = nil, quarantine quarantinePeriod: QuarantinePeriod = .standard,
    dependencies: Dependencies
  ) {
    let watch = InstallationWatch(
      installation, repository: InstallationRepository(database: database), logger: dependencies.logger)
    let hosts = WatchedHosts(directory: hosts, watch: watch)
    let tombstones = TombstoneRepository(database: database)
    let repository = SandboxRepository(database: database)
    let work = OwnedWork()
    let audit = AuditLog(repository: AuditRepository(database: database), dependencies: dependencies)
    let activity = ActivityTracker(repository: repository)
    let keys = APIKeyRepository(database: database)
    let people = PeopleRepository(database: database)
    let teamRepository = TeamRepository(database: database)
    let tokens = TokenAuthority(secret: identity.secret)
    let limits = RateLimits(identity.rates, now: dependencies.now)
    let quotas = Quotas(repository: repository, defaults: identity.quota, dependencies: dependencies)
    authenticator = Authenticator(
      keys: keys, people: people, tokens: tokens, limits: limits, dependencies: dependencies)
    metrics = PlaneMetrics(repository: repository)
    sandboxes = SandboxService(
      repository: repository, snapshots: SnapshotRepository(database: database), tombstones: tombstones,
      directory: hosts,
      placement: Placement(directory: hosts, scheduler: scheduler), quotas: quotas, work: work, audit: audit,
      activity: activity,
      singleFlightResumes: SingleFlight(), metrics: metrics, dependencies: dependencies)
    snapshots = SnapshotService(sandboxes: sandboxes)
    leadership = Leadership(database: database, dependencies: dependencies)
    quarantine = QuarantineService(snapshots: snapshots, teams: teamRepository, period: quarantinePeriod)
    monitor = Monitor(
      snapshots: snapshots, quarantine: quarantine, watch: watch, leadership: leadership)
    accounts = AccountService(
      people: people, teams: teamRepository, hasher: identity.hasher, tokens: tokens, limits: limits, audit: audit,
      allowsSignUp: identity.allowsSignUp, dependencies: dependencies)
    teams = TeamService(
      teams: teamRepository, people: people, sandboxes: sandboxes, audit: audit, dependencies: dependencies)
    apiKeys = APIKeyService(keys: keys, audit: audit, dependencies: dependencies)
    auditLogs = AuditService(repository: AuditRepository(database: database), secret: identity.secret)
    admin = AdminService(
      people: people, teamRepository: teamRepository, sandboxRepository: repository, accounts: accounts,
      directory: hosts,
      audit: audit, quotaDefaults: identity.quota, dependencies: dependencies)
    housekeeping = Housekeeping(
      work: work, activity: activity, authenticator: authenticator, audit: audit, quotas: quotas,
      auditRepository: AuditRepository(database: database), sandboxRepository: repository, tombstones: tombstones,
      leadership: leadership,
      retention: retention,
      dependencies: dependencies)
  }

  /// Services for the server's service group. They must precede the API, so that they stop after it.
  package var services: [any Service] { [housekeeping, monitor] }
}
