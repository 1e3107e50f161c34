package import Foundation
package import Model

/// One row of the audit log: who did what to which object, with what outcome.
package struct AuditRecord: Sendable, Equatable {
  package var teamID: TeamID
  /// `api_key`, `user` or `system`.
  package var actorType: String
  package var actorID: String
  /// `sandbox.create`, `file.write`, …
  package var action: String
  package var targetType: String
  package var targetID: String
  /// `ok`, or the code of the error.
  package var outcome: String
  /// The client's address.
  package var source: String?
  package var createdAt: Date

  package init(
    teamID: TeamID, actorType: String, actorID: String, action: String, targetType: String, targetID: String,
    outcome: String,
    source: String?, createdAt: Date
  ) {
    self.teamID = teamID
    self.actorType = actorType
    self.actorID = actorID
    self.action = action
    self.targetType = targetType
    self.targetID = targetID
    self.outcome = outcome
    self.source = source
    self.createdAt = StoredTime.rounded(createdAt)
  }
}

/// Selects rows of the audit log, newest first.
package struct AuditFilter: Sendable, Equatable {
  package var action: String?
  package var actorID: String?
  package var targetType: String?
  package var targetID: String?
  package var outcome: String?
  package var since: Date?
  package var until: Date?
  package var limit: Int
  /// The number of the last row of the previous page.
  package var before: Int?

  package init(
    action: String? = nil, actorID: String? = nil, targetType: String? = nil, targetID: String? = nil,
    outcome: String? = nil,
    since: Date? = nil, until: Date? = nil, limit: Int, before: Int? = nil
  ) {
    self.action = action
    self.actorID = actorID
    self.targetType = targetType
    self.targetID = targetID
    self.outcome = outcome
    self.since = since
    self.until = until
    self.limit = limit
    self.before = before
  }
}
