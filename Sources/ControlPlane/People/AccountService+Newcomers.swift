import Foundation
import Model
import Persistence

/// The validated data of a user to be created.
struct Newcomer: Sendable {
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
  func create(_ newcomer: Newcomer, by caller: Caller? = nil, source: String?) async throws -> (UserRecord, TeamID) {
    guard try await people.user(email: newcomer.email.value) == nil else { throw Self.taken(newcomer.email) }
    let hash = try await hash(newcomer.password)
    let now = now
    let user = UserRecord(
      email: newcomer.email.value, name: newcomer.name.value, passwordHash: hash, isAdmin: newcomer.isAdmin,
      createdAt: now)
    let team = TeamRecord(name: newcomer.teamName, createdAt: now)
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
        ], by: caller?.person)
    } catch PersistenceError.duplicate {
      throw Self.taken(newcomer.email)
    }
    return (user, team.id)
  }

  static func taken(_ email: EmailAddress) -> MartletError {
    MartletError(.emailTaken, "\(email) has an account already; log in, or use another address")
  }
}
