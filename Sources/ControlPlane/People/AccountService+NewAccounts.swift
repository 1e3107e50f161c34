import Foundation
import Model
import Persistence

/// The validated data of a user to be created.
struct NewAccount: Sendable {
  let email: EmailAddress
  let name: DisplayName
  let password: String
  var isAdmin = false

  /// - Throws: `invalid_request` with the name of the field.
  init(email: String, password: String, name: String, isAdmin: Bool = false) throws(MartletError) {
    self.email = try EmailAddress(email)
    self.name = try DisplayName(name)
    try PasswordHasher.check(password)
    self.password = password
    self.isAdmin = isAdmin
  }

  /// The name of the user's own team.
  var teamName: String { "\(name.value.prefix(Limits.displayNameCharacters.upperBound - 7))'s team" }
}

extension AccountService {
  /// Creates user, team and ownership in one transaction.
  /// - Parameter caller: the administrator or local program that creates the user; nil for users who sign up.
  /// - Throws: `email_taken`.
  func create(_ account: NewAccount, by caller: Caller? = nil, source: String?) async throws -> (UserRecord, TeamID) {
    guard try await people.user(email: account.email.value) == nil else { throw Self.emailTaken(account.email) }
    let hash = try await hash(account.password)
    let now = now
    let user = UserRecord(
      email: account.email.value, name: account.name.value, passwordHash: hash, isAdmin: account.isAdmin,
      createdAt: now)
    let team = TeamRecord(name: account.teamName, createdAt: now)
    let actor =
      caller?.acting(in: team.id) ?? Caller(principal: Principal(kind: .user(user.id), teamID: team.id), source: source)
    do {
      _ = try await people.insert(
        user: user, team: team,
        membership: MembershipRecord(teamID: team.id, userID: user.id, role: .owner, isDefault: true, joinedAt: now),
        key: nil,
        audit: [
          actor.audit("user.create", of: "user", user.id.wire, outcome: "ok", at: now),
          actor.audit("team.create", of: "team", team.id.wire, outcome: "ok", at: now),
        ], by: caller?.optionalActingUser)
    } catch PersistenceError.duplicate {
      throw Self.emailTaken(account.email)
    }
    return (user, team.id)
  }

  static func emailTaken(_ email: EmailAddress) -> MartletError {
    MartletError(.emailTaken, "\(email) already has an account; log in, or use another address")
  }
}
