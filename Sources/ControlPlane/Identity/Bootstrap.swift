import Foundation
package import Model
package import Persistence

/// Sets up an empty database at the first run: platform team, administrator, default team, API key.
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

  /// Creates what is missing in one transaction.
  ///
  /// - Parameters:
  ///   - url: the URL at which clients reach the server.
  ///   - installation: the installation that the database belongs to.
  ///   - unfinished: the credentials stored by an earlier first start on this database that ended before it inserted the
  ///     users; they are used again.
  ///   - keep: stores the credentials, which cannot be read from the database. Called before the users are inserted;
  ///     called with nil if another server inserted its users first, so that the credentials are invalid.
  /// - Returns: nil when users exist already.
  package func run(
    url: String, installation: InstallationID? = nil, unfinished: Credentials? = nil,
    keep: @Sendable (Credentials?) throws -> Void = { _ in }
  ) async throws -> Credentials? {
    let now = dependencies.now()
    try await people.ensureTeam(TeamRecord(id: .platform, name: "platform", createdAt: now))
    guard try await !people.hasUsers() else { return nil }
    let (secret, password) = Self.secrets(unfinished)
    let user = UserRecord(
      email: Self.adminEmail, name: "Administrator", passwordHash: try await hasher.hash(password), isAdmin: true,
      createdAt: now)
    let team = TeamRecord(name: "default", createdAt: now)
    let key = APIKeyRecord(
      teamID: team.id, name: "first run", keyPrefix: secret.shownPrefix, keyHash: secret.hash, createdBy: user.id,
      createdAt: now)
    let credentials = Credentials(
      apiKey: secret.text, adminEmail: user.email, adminPassword: password, url: url, installation: installation?.wire)
    if credentials.apiKey != unfinished?.apiKey { try keep(credentials) }
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
      if credentials.apiKey != unfinished?.apiKey { try keep(nil) }
      return nil
    }
    return credentials
  }

  private static func secrets(_ unfinished: Credentials?) -> (secret: APIKeySecret, password: String) {
    if let unfinished, let secret = APIKeySecret(unfinished.apiKey) { return (secret, unfinished.adminPassword) }
    var generator = SystemRandomNumberGenerator()
    let password = Hexadecimal.text(
      (0..<Self.passwordBytes).map { _ in UInt8.random(in: .min ... .max, using: &generator) })
    return (APIKeySecret.random(), password)
  }
}
