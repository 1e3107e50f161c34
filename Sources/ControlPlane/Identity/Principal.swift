import Foundation
package import Model
import Persistence

/// Who makes a call, and for which team.
package struct Principal: Sendable, Equatable {
  package enum Kind: Sendable, Equatable {
    case apiKey(APIKeyID)
    case user(UserID)
    case system
  }

  package var kind: Kind
  package var teamID: TeamID

  package init(kind: Kind, teamID: TeamID) {
    self.kind = kind
    self.teamID = teamID
  }

  var auditType: String {
    switch kind {
    case .apiKey: "api_key"
    case .user: "user"
    case .system: "system"
    }
  }

  var auditID: String {
    switch kind {
    case .apiKey(let id): id.wire
    case .user(let id): id.wire
    case .system: "martlet"
    }
  }
}

/// A principal and where its call came from.
package struct Caller: Sendable, Equatable {
  package var principal: Principal
  /// Address of the client, for the audit log.
  package var source: String?

  package var teamID: TeamID { principal.teamID }

  package init(principal: Principal, source: String? = nil) {
    self.principal = principal
    self.source = source
  }

  func audit(_ action: String, of type: String, _ id: String, outcome: String, at time: Date) -> AuditRecord {
    AuditRecord(
      teamID: teamID, actorType: principal.auditType, actorID: principal.auditID, action: action, targetType: type, targetID: id,
      outcome: outcome, source: source, createdAt: time)
  }

  func audit(_ action: String, _ id: SandboxID, outcome: String, at time: Date) -> AuditRecord {
    audit(action, of: "sandbox", id.wire, outcome: outcome, at: time)
  }

  static func system(_ team: TeamID) -> Caller {
    Caller(principal: Principal(kind: .system, teamID: team))
  }
}
