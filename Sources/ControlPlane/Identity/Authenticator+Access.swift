import Model
import Persistence

extension Authenticator {
  /// Checks whether a principal that was authenticated earlier would still be admitted; for connections that stay open
  /// long, such as shells and logs.
  ///
  /// Does not count against the rate limit.
  /// - Throws: `unauthorized` if the key was deleted, or the session ended because the password changed; `no_team` if
  ///   the user was removed from the team; `database_unavailable`, which does not mean that access was revoked.
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
      throw MartletError(.unauthorized, "the session has ended; log in again")
    }
    guard access.role != nil else {
      throw MartletError(.noTeam, "you are no longer a member of this team; switch to another team")
    }
  }
}
