import Foundation
import Model
package import Persistence

/// The first run: platform team, administrator, default team, API key (AUTH-7).
package struct Bootstrap: Sendable {
  package static let adminEmail = "admin@martlet.local"
  private static let passwordBytes = 15

  private let people: PeopleRepository
  private let hasher: PasswordHasher
  private let dependencies: Dependencies

  package init(database: any Database, hasher: PasswordHasher, dependencies: Dependencies) {
    people = PeopleRepository(database: database)
    self.hasher = hasher
    self.dependencies = dependencies
  }

  /// Makes what is missing, all of it in one transaction.
  ///
  /// - Parameters:
  ///   - url: where clients reach the server.
  ///   - keep: writes the credentials down before the users exist that they are for: they are nowhere else. Nil when
  ///     they are for nobody, because another server was first.
  /// - Returns: nil when there are users already.
  package func run(url: String, keep: @Sendable (Credentials?) throws -> Void = { _ in }) async throws -> Credentials? {
    let now = dependencies.now()
    try await people.ensureTeam(TeamRecord(id: .platform, name: "platform", createdAt: now))
    guard try await !people.hasUsers() else { return nil }
    var generator = SystemRandomNumberGenerator()
    let password = Hexadecimal.text(
      (0..<Self.passwordBytes).map { _ in UInt8.random(in: .min ... .max, using: &generator) })
    let user = UserRecord(
      email: Self.adminEmail, name: "Administrator", passwordHash: try await hasher.hash(password), isAdmin: true,
      createdAt: now)
    let team = TeamRecord(name: "default", createdAt: now)
    let secret = APIKeySecret.random()
    let key = APIKeyRecord(
      teamID: team.id, name: "first run", keyPrefix: secret.shownPrefix, keyHash: secret.hash, createdBy: user.id,
      createdAt: now)
    let credentials = Credentials(apiKey: secret.text, adminEmail: user.email, adminPassword: password, url: url)
    try keep(credentials)
    let system = Caller.system(team.id)
    let isFirst = try await people.insert(
      user: user, team: team,
      membership: MembershipRecord(teamID: team.id, userID: user.id, role: .owner, isDefault: true, joinedAt: now),
      key: key,
      audit: [
        system.audit("user.create", of: "user", user.id.wire, outcome: "ok", at: now),
        system.audit("api_key.create", of: "api_key", key.id.wire, outcome: "ok", at: now),
      ], onlyIfNoUsers: true)
    guard isFirst else {
      try keep(nil)
      return nil
    }
    return credentials
  }
}
