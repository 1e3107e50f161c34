import Model
import Persistence

extension Authenticator {
  /// Whether somebody who was let in a while ago would be let in now, for what stays open long: a shell, a log (L-63).
  ///
  /// Does not count as a call.
  /// - Throws: `unauthorized` for a key that was deleted and for the session of before a new password; `no_team` for
  ///   somebody who was removed from the team; `database_unavailable`, which says nothing about them.
  package func confirm(_ principal: Principal) async throws {
    switch principal.kind {
    case .system: return
    case .apiKey(let id): try await confirm(key: id, of: principal.teamID)
    case .user(let id): try await confirm(user: id, principal)
    }
  }

  private func confirm(key id: APIKeyID, of team: TeamID) async throws {
    guard try await keys.key(id, team: team) != nil else {
      throw MartletError(.unauthorized, "the API key was deleted")
    }
  }

  private func confirm(user id: UserID, _ principal: Principal) async throws {
    let access = try await people.access(of: id, in: principal.teamID)
    guard let access, principal.sessionEpoch == nil || access.sessionEpoch == principal.sessionEpoch else {
      throw MartletError(.unauthorized, "the session is over; log in again")
    }
    guard access.role != nil else {
      throw MartletError(.noTeam, "you are no member of this team any more; switch to another one")
    }
  }
}
