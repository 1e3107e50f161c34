package import Persistence
package import ServiceLifecycle

/// The control plane of one server, put together: what the API calls, and the services that run beside it.
package struct ControlPlane: Sendable {
  package let sandboxes: SandboxService
  package let snapshots: SnapshotService
  package let metrics: PlaneMetrics
  package let authenticator: Authenticator
  package let leadership: Leadership
  package let monitor: Monitor
  package let housekeeping: Housekeeping

  /// - Parameter database: migrated.
  package init(
    database: any Database, hosts: any HostDirectory, scheduler: any Scheduler = RoundRobinScheduler(), surroundings: Surroundings
  ) {
    let repository = SandboxRepository(database: database)
    let work = OwnedWork()
    let audit = AuditLog(repository: AuditRepository(database: database), surroundings: surroundings)
    let activity = ActivityTracker(repository: repository)
    authenticator = Authenticator(keys: APIKeyRepository(database: database), surroundings: surroundings)
    metrics = PlaneMetrics(repository: repository)
    sandboxes = SandboxService(
      repository: repository, snapshots: SnapshotRepository(database: database), directory: hosts,
      placement: Placement(directory: hosts, scheduler: scheduler), work: work, audit: audit, activity: activity, wakings: Wakings(),
      metrics: metrics, surroundings: surroundings)
    snapshots = SnapshotService(sandboxes: sandboxes)
    leadership = Leadership(database: database, surroundings: surroundings)
    monitor = Monitor(snapshots: snapshots, leadership: leadership)
    housekeeping = Housekeeping(
      work: work, activity: activity, authenticator: authenticator, audit: audit, logger: surroundings.logger)
  }

  /// Run these in the server's service group, before the API, so that they stop after it.
  package var services: [any Service] { [housekeeping, monitor] }
}
