package import Foundation
package import Model

/// A state transition of a sandbox, and what is written together with it.
package struct SandboxTransition: Sendable {
  package var next: SandboxStatus
  /// Replaces the facts reported by the host; nil keeps them.
  package var facts: SandboxFacts?
  /// Whether the idle time-out paused the sandbox; nil keeps the row's value. Always false for a running sandbox.
  package var isAutoPaused: Bool?
  /// The new value of the row's `error`; nil clears it.
  package var error: String?
  package var time: Date
  package var audit: AuditRecord?
  /// Whether the transition leaves a tombstone, so that the host may remove what it holds. A transition to `destroying`
  /// always does, and so does a creation that fails on a host.
  package var buries = false
  /// For a transition to a running state: the server's default quota, against which the team's usage is checked. Nil
  /// skips the check.
  package var quota: QuotaRecord?

  package init(
    to next: SandboxStatus, facts: SandboxFacts? = nil, isAutoPaused: Bool? = nil, error: String? = nil, at time: Date,
    audit: AuditRecord? = nil
  ) {
    self.next = next
    self.facts = facts
    self.isAutoPaused = next == .running ? false : isAutoPaused
    self.error = error
    self.time = time
    self.audit = audit
  }
}

extension SandboxTransition {
  func leavesTombstone(from status: SandboxStatus) -> Bool {
    switch (status, next) {
    // A host is asked only after `pending`: a row of an older backup may say `pending` of a sandbox that runs by now.
    case (_, .destroying), (.destroying, .stopped), (.starting, .error): true
    default: buries
    }
  }
}

extension SandboxRepository {
  /// Moves a sandbox from `status` to `next` if its row still has the state `status`: of two racing calls one succeeds.
  /// - Returns: whether this call changed the row.
  /// - Precondition: the state machine permits the transition.
  package func transition(
    _ id: SandboxID, from status: SandboxStatus, to next: SandboxStatus, facts: SandboxFacts? = nil,
    error: String? = nil,
    at time: Date, audit: AuditRecord? = nil
  ) async throws -> Bool {
    try await apply(
      SandboxTransition(to: next, facts: facts, error: error, at: time, audit: audit), to: id, from: status)
  }

  /// Applies a transition to a row as it was read. Does nothing if the row has changed since, even if it has the same
  /// state again.
  /// - Returns: whether this call changed the row.
  package func apply(_ transition: SandboxTransition, to record: SandboxRecord) async throws -> Bool {
    try await apply(transition, to: record.id, from: record.status, revision: record.revision)
  }

  /// - Parameter revision: the expected revision; nil accepts any.
  package func apply(
    _ transition: SandboxTransition, to id: SandboxID, from status: SandboxStatus, revision: Int? = nil
  ) async throws -> Bool {
    precondition(status.canBecome(transition.next), "a sandbox cannot go from \(status) to \(transition.next)")
    return try await database.write { connection in
      if let quota = transition.quota { try Self.checkResume(of: id, defaults: quota, connection) }
      let (assignments, values) = Self.assignments(transition, by: database.worker)
      var condition = "id = ? AND status = ?"
      var parameters = values + [.uuid(id.uuid), .text(status.rawValue)]
      if let revision {
        condition += " AND revision = ?"
        parameters.append(.integer(revision))
      }
      let changed = try connection.execute("UPDATE sandboxes SET \(assignments) WHERE \(condition)", parameters)
      guard changed == 1 else { return false }
      if transition.leavesTombstone(from: status) {
        try TombstoneRepository.buryRow(id, at: transition.time, connection)
      }
      if let audit = transition.audit { try AuditRepository.insert(audit, connection) }
      return true
    }
  }

  /// Sets the idle time-out of a team's sandbox while its state is `status`. Increments the revision, so that a resume
  /// that has read the old time-out fails and reads again.
  /// - Parameter revision: the expected revision; nil accepts any.
  /// - Returns: the new revision; nil when nothing was set.
  package func setTimeout(
    _ seconds: Int, of id: SandboxID, team: TeamID, in status: SandboxStatus, revision: Int? = nil, at time: Date,
    audit: AuditRecord? = nil
  ) async throws -> Int? {
    try await database.write { connection in
      let (condition, expected) = revision.map { (" AND revision = ?", [SQLValue.integer($0)]) } ?? ("", [])
      let changed = try connection.execute(
        """
        UPDATE sandboxes SET timeout_sec = ?, last_updated = ?, revision = revision + 1 \
        WHERE id = ? AND team_id = ? AND status = ?\(condition)
        """,
        [.integer(seconds), .timestamp(time), .uuid(id.uuid), .uuid(team.uuid), .text(status.rawValue)] + expected)
      guard changed == 1 else { return nil }
      if let audit { try AuditRepository.insert(audit, connection) }
      return try connection.row("SELECT revision FROM sandboxes WHERE id = ?", [.uuid(id.uuid)])?.integer(0)
    }
  }

  private static func assignments(_ transition: SandboxTransition, by worker: WorkerID) -> (String, [SQLValue]) {
    var assignments = "status = ?, error = ?, last_updated = ?, worker = ?, revision = revision + 1"
    var values: [SQLValue] = [
      .text(transition.next.rawValue), .optional(transition.error), .timestamp(transition.time), worker.value,
    ]
    if let facts = transition.facts {
      assignments +=
        ", host_id = ?, guest_ip = ?, host_ip = ?, isolation_vmm = ?, isolation_accelerator = ?, started_at = ?"
      values += parameters(facts)
    }
    if let isAutoPaused = transition.isAutoPaused {
      assignments += ", is_auto_paused = ?"
      values.append(.bool(isAutoPaused))
    }
    if transition.next == .running {
      assignments += ", last_active_at = ?"
      values.append(.timestamp(transition.time))
    }
    return (assignments, values)
  }
}
