import Concurrency
import Foundation
import Logging
package import Model
import Persistence

/// Sign-up, login, sessions and the user's own profile.
package struct AccountService: Sendable {
  /// A login that waits longer than this for its hash fails.
  static let hashDeadline: Duration = .seconds(30)

  let people: PeopleRepository
  let teams: TeamRepository
  let hasher: PasswordHasher
  let tokens: TokenAuthority
  let limits: RateLimits
  let audit: AuditLog
  let allowsSignUp: Bool
  let dependencies: Dependencies

  var now: Date { dependencies.now() }

  /// Creates a user with a team of their own.
  /// - Parameter source: the client's address.
  /// - Throws: `invalid_request`, `email_taken`, `forbidden` where sign-up is closed, `rate_limited`.
  package func signUp(email: String, password: String, name: String, source: String?) async throws -> Session {
    guard allowsSignUp else {
      throw MartletError(.forbidden, "sign-up is closed on this server; ask an administrator for an account")
    }
    try limits.signUp.admit(RateLimits.key(forAddress: source))
    let account = try NewAccount(email: email, password: password, name: name)
    let (user, team) = try await create(account, source: source)
    return try await session(user, team)
  }

  /// - Throws: `unauthorized` both for an unknown e-mail and for a wrong password, after the same time; `no_team`,
  ///   `rate_limited`.
  package func logIn(email: String, password: String, source: String?) async throws -> Session {
    try limits.login.admit(RateLimits.key(forAddress: source))
    guard password.unicodeScalars.count <= PasswordHasher.passwordCharacters.upperBound else {
      throw Self.wrongCredentials
    }
    let user = try await (try? EmailAddress(email)).asyncMap { try await people.user(email: $0.value) } ?? nil
    guard try await verify(password, against: user?.passwordHash), let user else {
      recordAudit(
        "auth.login", user: user?.id.wire ?? "unknown", team: .platform, outcome: .unauthorized, source: source)
      throw Self.wrongCredentials
    }
    await rehashIfOutdated(user, password)
    let memberships = try await teams.memberships(of: user.id)
    guard let team = (memberships.first(where: \.isDefault) ?? memberships.first)?.team.id else {
      recordAudit("auth.login", user: user.id.wire, team: .platform, outcome: .noTeam, source: source)
      throw MartletError(.noTeam, "you are not a member of any team; ask a team's owner to add you")
    }
    recordAudit("auth.login", user: user.id.wire, team: team, outcome: nil, source: source)
    return try await session(user, team)
  }

  /// A new session of the same user for another team.
  /// - Throws: `not_found` for a team that the user does not belong to.
  package func switchTeam(to team: TeamID, for caller: Caller) async throws -> Session {
    let user = try await record(of: caller)
    guard try await teams.membership(of: user.id, in: team) != nil else { throw MartletError.teamNotFound(team) }
    recordAudit("auth.switch_team", user: user.id.wire, team: team, outcome: nil, source: caller.source)
    return try await session(user, team)
  }

  // MARK: - Helpers

  /// The user of a session.
  func record(of caller: Caller) async throws -> UserRecord {
    guard let user = try await people.user(try caller.user()) else {
      throw MartletError(.unauthorized, "the session has ended; log in again")
    }
    return user
  }

  func session(_ user: UserRecord, _ team: TeamID) async throws -> Session {
    let expiresAt = now.addingTimeInterval(Session.lifetime)
    let claims = TokenClaims(subject: user.id.wire, team: team, epoch: user.sessionEpoch, expiresAt: expiresAt)
    return Session(
      token: try await tokens.issue(claims, at: now), userID: user.id, teamID: team, email: user.email,
      name: user.name,
      expiresAt: expiresAt)
  }

  func verify(_ password: String, against hash: String?) async throws -> Bool {
    let hasher = hasher
    return try await waitAtMost(Self.hashDeadline, throwing: Self.busy) {
      try await hasher.verify(password, against: hash)
    }
  }

  func hash(_ password: String) async throws -> String {
    let hasher = hasher
    return try await waitAtMost(Self.hashDeadline, throwing: Self.busy) { try await hasher.hash(password) }
  }

  func recordAudit(_ action: String, user: String, team: TeamID, outcome: ErrorCode?, source: String?) {
    audit.add(
      AuditRecord(
        teamID: team, actorType: "user", actorID: user, action: action, targetType: "user", targetID: user,
        outcome: outcome?.rawValue ?? "ok", source: source, createdAt: now))
  }

  /// Replaces a hash with outdated parameters; if that fails, the next login tries again.
  private func rehashIfOutdated(_ user: UserRecord, _ password: String) async {
    guard hasher.isOutdated(user.passwordHash) else { return }
    do {
      try await people.rehash(user.id, hash: hash(password), replacing: user.passwordHash)
    } catch {
      dependencies.logger.warning("password hash not renewed", metadata: [LogKey.error: "\(error)"])
    }
  }

  private static var wrongCredentials: MartletError {
    MartletError(.unauthorized, "the e-mail or the password is wrong")
  }
  private static var busy: MartletError {
    MartletError(.rateLimited, "too many logins at the moment; try again", retryAfterSeconds: 5)
  }
}

extension MartletError {
  /// Also used for teams that the caller does not belong to.
  static func teamNotFound(_ id: TeamID) -> MartletError { MartletError(.notFound, "team \(id) does not exist") }
}

extension Optional where Wrapped: Sendable {
  fileprivate func asyncMap<Value: Sendable>(_ transform: (Wrapped) async throws -> Value) async throws -> Value? {
    guard let self else { return nil }
    return try await transform(self)
  }
}
