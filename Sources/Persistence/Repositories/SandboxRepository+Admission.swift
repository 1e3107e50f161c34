package import Foundation
package import Model

extension SandboxRepository {
  /// States in which a sandbox counts against its team's quota of running sandboxes.
  static let activeStatuses: Set<SandboxStatus> = [.pending, .starting, .running, .pausing, .resuming, .missing]

  /// Inserts sandboxes of one team if its quota permits all of them; otherwise none.
  /// - Parameters:
  ///   - defaults: bounds for quotas that the team does not set itself; nil means no bound.
  ///   - request: the idempotency key, if the client sent one. An earlier request with the same key is replaced if it
  ///     is older than `validity` seconds or its sandbox never ran.
  /// - Throws: `AdmissionRefusal`.
  package func admit(
    _ entries: [(record: SandboxRecord, audit: AuditRecord)], defaults: QuotaRecord, request: IdempotencyRecord? = nil,
    validity: TimeInterval = .infinity
  ) async throws {
    guard let team = entries.first?.record.teamID else { return }
    let statements = try entries.map {
      (parameters: try Self.parameters($0.record, by: database.worker), audit: $0.audit)
    }
    let requested = entries.reduce(into: TeamUsage()) { $0.add($1.record.spec, disk: $1.record.spec.diskSizeMiB) }
    try await database.write { connection in
      guard try TeamRepository.lock(team, connection) else { throw AdmissionRefusal.teamIsGone }
      if let request { try Self.reserveKey(request, validity: validity, connection) }
      try Self.check(requested, team, defaults, connection)
      for statement in statements {
        try connection.execute(
          "INSERT INTO sandboxes (\(Self.columns)) VALUES (\(Self.placeholders))", statement.parameters)
        try AuditRepository.insert(statement.audit, connection)
      }
    }
  }

  /// The present usage of a team.
  package func usage(of team: TeamID) async throws -> TeamUsage {
    try await database.query { try Self.usage(of: team, $0) }
  }

  /// - Throws: `AdmissionRefusal.quota` when the team's quota does not permit that this sandbox runs again.
  static func checkResume(of id: SandboxID, defaults: QuotaRecord, _ connection: any SQLConnection) throws {
    guard let record = try connection.row("SELECT \(columns) FROM sandboxes WHERE id = ?", [.uuid(id.uuid)]).map(record)
    else { return }
    guard try TeamRepository.lock(record.teamID, connection) else { throw AdmissionRefusal.teamIsGone }
    var requested = TeamUsage()
    // The quota usage already includes the sandbox's disk.
    requested.add(record.spec, disk: 0)
    try check(requested, record.teamID, defaults, connection)
  }

  /// - Throws: `AdmissionRefusal`.
  static func check(
    _ requested: TeamUsage, _ team: TeamID, _ defaults: QuotaRecord, _ connection: any SQLConnection
  ) throws {
    guard
      let own = try connection.row("SELECT \(TeamRepository.columns) FROM teams WHERE id = ?", [.uuid(team.uuid)])
        .map({ try TeamRepository.record($0).quota })
    else { throw AdmissionRefusal.teamIsGone }
    let used = try usage(of: team, connection)
    let bounds = [
      ("max_sandboxes", own.sandboxes ?? defaults.sandboxes, used.sandboxes, requested.sandboxes),
      ("max_vcpus", own.vcpus ?? defaults.vcpus, used.vcpus, requested.vcpus),
      ("max_memory_mb", own.memoryMiB ?? defaults.memoryMiB, used.memoryMiB, requested.memoryMiB),
      ("max_disk_mb", own.diskMiB ?? defaults.diskMiB, used.diskMiB, requested.diskMiB),
      ("max_snapshots", own.snapshots ?? defaults.snapshots, used.snapshots, requested.snapshots),
    ]
    for case (let what, let limit?, let used, let requested) in bounds where requested > 0 && used + requested > limit {
      throw AdmissionRefusal.quota(what: what, limit: limit, used: used, requested: requested)
    }
  }

  /// One aggregate row without GROUP BY: with groups SQLite would also read finished sandboxes, in the order of the
  /// index on the status.
  private static func usage(of team: TeamID, _ connection: any SQLConnection) throws -> TeamUsage {
    let active = "status IN (\(activeStatuses.map { "'\($0.rawValue)'" }.sorted().joined(separator: ", ")))"
    let row = try connection.row(
      """
      SELECT COUNT(CASE WHEN \(active) THEN 1 END), \
      CAST(COALESCE(SUM(CASE WHEN \(active) THEN vcpus END), 0) AS BIGINT), \
      CAST(COALESCE(SUM(CASE WHEN \(active) THEN memory_mb END), 0) AS BIGINT), \
      CAST(COALESCE(SUM(disk_size_mb + CASE WHEN status = 'paused' THEN memory_mb ELSE 0 END), 0) AS BIGINT) \
      FROM sandboxes WHERE team_id = ? AND status NOT IN ('stopped', 'error')
      """,
      [.uuid(team.uuid)])
    let (snapshots, snapshotMiB) = try snapshots(of: team, connection)
    guard let row else { return TeamUsage(diskMiB: snapshotMiB, snapshots: snapshots) }
    return TeamUsage(
      sandboxes: try row.integer(0), vcpus: try row.integer(1), memoryMiB: try row.integer(2),
      diskMiB: try row.integer(3) + snapshotMiB, snapshots: snapshots)
  }

  /// Includes snapshots that are being created or deleted, as their files occupy the disk.
  private static func snapshots(of team: TeamID, _ connection: any SQLConnection) throws -> (count: Int, sizeMiB: Int) {
    let row = try connection.row(
      "SELECT COUNT(*), CAST(COALESCE(SUM(size_bytes), 0) AS BIGINT) FROM snapshots WHERE team_id = ?",
      [.uuid(team.uuid)])
    guard let row else { return (0, 0) }
    return (try row.integer(0), try row.integer(1) / 1_048_576)
  }
}

// MARK: - Idempotency keys

extension SandboxRepository {
  /// The earlier request with this key, if it is still valid.
  package func earlierRequest(team: TeamID, key: String, since: Date) async throws -> IdempotencyRecord? {
    try await database.query { connection in
      guard let earlier = try Self.earlierRequest(team: team, key: key, connection), earlier.createdAt >= since,
        try Self.isValid(earlier, connection)
      else { return nil }
      return earlier
    }
  }

  /// Deletes requests from before `time`.
  package func deleteRequests(before time: Date) async throws {
    try await database.write { connection in
      _ = try connection.execute("DELETE FROM idempotency_keys WHERE created_at < ?", [.timestamp(time)])
    }
  }

  private static func reserveKey(
    _ request: IdempotencyRecord, validity: TimeInterval, _ connection: any SQLConnection
  ) throws {
    if let earlier = try earlierRequest(team: request.teamID, key: request.key, connection) {
      let isFresh = request.createdAt.timeIntervalSince(earlier.createdAt) < validity
      if isFresh, try isValid(earlier, connection) { throw AdmissionRefusal.repeated(earlier) }
      try connection.execute(
        "DELETE FROM idempotency_keys WHERE team_id = ? AND idempotency_key = ?",
        [.uuid(request.teamID.uuid), .text(request.key)])
    }
    try connection.execute(
      """
      INSERT INTO idempotency_keys (team_id, idempotency_key, request_hash, sandbox_id, created_at) \
      VALUES (?, ?, ?, ?, ?)
      """,
      [
        .uuid(request.teamID.uuid), .text(request.key), .blob(request.requestHash), .uuid(request.sandboxID.uuid),
        .timestamp(request.createdAt),
      ])
  }

  private static func earlierRequest(
    team: TeamID, key: String, _ connection: any SQLConnection
  ) throws -> IdempotencyRecord? {
    try connection.row(
      "SELECT request_hash, sandbox_id, created_at FROM idempotency_keys WHERE team_id = ? AND idempotency_key = ?",
      [.uuid(team.uuid), .text(key)]
    ).map { row in
      IdempotencyRecord(
        teamID: team, key: key, requestHash: try row.blob(0), sandboxID: SandboxID(try row.uuid(1)),
        createdAt: try row.date(2))
    }
  }

  /// Whether a request with the same key returns this sandbox. A request whose sandbox failed to start may be repeated,
  /// even if that sandbox was destroyed since.
  private static func isValid(_ request: IdempotencyRecord, _ connection: any SQLConnection) throws -> Bool {
    try connection.row(
      """
      SELECT 1 FROM sandboxes WHERE id = ? \
      AND NOT (started_at IS NULL AND status IN ('error', 'destroying', 'stopped'))
      """,
      [.uuid(request.sandboxID.uuid)]) != nil
  }
}

// MARK: - Deleted teams

extension SandboxRepository {
  /// Sets the state of all unfinished sandboxes of a team to `destroying`; part of deleting the team.
  /// - Parameter actor: the audit record of the deletion, whose actor is recorded for each sandbox.
  static func markAllDestroying(
    of team: TeamID, at time: Date, actor: AuditRecord, _ connection: any SQLConnection
  ) throws -> [SandboxRecord] {
    try connection.execute(
      """
      UPDATE sandboxes SET status = 'destroying', error = NULL, last_updated = ?, revision = revision + 1 \
      WHERE team_id = ? AND status NOT IN ('stopped', 'destroying')
      """,
      [.timestamp(time), .uuid(team.uuid)])
    try TombstoneRepository.buryAll(of: team, at: time, connection)
    let records = try connection.rows(
      "SELECT \(columns) FROM sandboxes WHERE team_id = ? AND status = 'destroying'", [.uuid(team.uuid)]
    ).map(record)
    for record in records {
      var audit = actor
      audit.action = "sandbox.destroy"
      audit.targetType = "sandbox"
      audit.targetID = record.id.wire
      audit.outcome = "accepted"
      try AuditRepository.insert(audit, connection)
    }
    return records
  }

  /// Sandboxes of all teams, newest first; for administrators.
  package func listAll(_ filter: SandboxFilter) async throws -> [SandboxRecord] {
    let (sql, parameters) = Self.listStatement(filter, team: nil, database.dialect)
    return try await database.query { try $0.rows(sql, parameters).map(Self.record) }
  }
}

extension TeamUsage {
  fileprivate mutating func add(_ spec: SandboxSpec, disk: Int) {
    sandboxes += 1
    vcpus += spec.vcpus
    memoryMiB += spec.memoryMiB
    diskMiB += disk
  }
}
