import Foundation
import NIOHTTP1

extension APIClient {
  package func logIn(email: String, password: String) async throws -> SessionResource {
    try await call(.POST, "/v1/auth/login", body: encode(["email": email, "password": password]))
  }

  package func switchTeam(to team: String) async throws -> SessionResource {
    try await call(.POST, "/v1/auth/switch-team", body: encode(["team_id": team]))
  }

  // MARK: Keys

  package func listKeys() async throws -> [KeyResource] {
    try await list("/v1/api-keys", of: KeyResource.self)
  }

  package func createKey(name: String?) async throws -> KeyResource {
    try await call(.POST, "/v1/api-keys", body: encode(name.map { ["name": $0] } ?? [:]))
  }

  package func deleteKey(_ id: String) async throws {
    try await perform(.DELETE, "/v1/api-keys/\(percentEncoded(id))")
  }

  // MARK: Teams

  package func listTeams() async throws -> [TeamResource] {
    try await list("/v1/teams", of: TeamResource.self)
  }

  package func createTeam(name: String) async throws -> TeamResource {
    try await call(.POST, "/v1/teams", body: encode(["name": name]))
  }

  package func renameTeam(_ id: String, to name: String) async throws -> TeamResource {
    try await call(.PATCH, Self.teamPath(id), body: encode(["name": name]))
  }

  package func deleteTeam(_ id: String) async throws {
    try await perform(.DELETE, Self.teamPath(id))
  }

  package func leaveTeam(_ id: String) async throws {
    try await perform(.POST, Self.teamPath(id) + "/leave")
  }

  package func listMembers(of team: String) async throws -> [MemberResource] {
    try await list(Self.teamPath(team) + "/members", of: MemberResource.self)
  }

  package func addMember(_ email: String, role: String, to team: String) async throws -> MemberResource {
    try await call(.POST, Self.teamPath(team) + "/members", body: encode(["email": email, "role": role]))
  }

  package func setRole(_ role: String, of user: String, in team: String) async throws -> MemberResource {
    try await call(.PATCH, Self.teamPath(team) + "/members/\(percentEncoded(user))", body: encode(["role": role]))
  }

  package func removeMember(_ user: String, from team: String) async throws {
    try await perform(.DELETE, Self.teamPath(team) + "/members/\(percentEncoded(user))")
  }

  // MARK: Administration

  package func listUsers() async throws -> [UserResource] {
    try await list("/v1/admin/users", of: UserResource.self)
  }

  package func createUser(_ user: NewUser) async throws -> UserResource {
    try await call(.POST, "/v1/admin/users", body: encode(user))
  }

  package func setAdmin(_ isAdmin: Bool, of user: String) async throws -> UserResource {
    try await call(.PATCH, "/v1/admin/users/\(percentEncoded(user))", body: encode(["is_admin": isAdmin]))
  }

  private static func teamPath(_ id: String) -> String { "/v1/teams/\(percentEncoded(id))" }
}
