import Foundation
import Model
import Persistence

extension AccountService {
  package func profile(of caller: Caller) async throws -> Profile {
    Profile(try await record(of: caller))
  }

  /// - Parameter password: required to change the e-mail, which is the login name.
  /// - Throws: `invalid_request`, `email_taken`, `forbidden` for a wrong password.
  package func updateProfile(
    of caller: Caller, email: String?, name: String?, password: String?
  ) async throws -> Profile {
    let user = try await record(of: caller)
    let newName = try name.map { try DisplayName($0).value }
    let newEmail = try email.map { try EmailAddress($0) }
    let changedEmail = newEmail.flatMap { $0.value == user.email ? nil : $0.value }
    try await audit.recordingFailure(caller.audit("user.update", of: "user", user.id.wire, outcome: "ok", at: now)) {
      audit in
      if changedEmail != nil { try await confirm(password, of: user) }
      do {
        _ = try await people.setProfile(user.id, email: changedEmail, name: newName, audit: audit)
      } catch PersistenceError.duplicate {
        throw newEmail.map(Self.emailTaken) ?? MartletError(.emailTaken, "this e-mail already has an account")
      }
    }
    return Profile(try await record(of: caller))
  }

  /// Sets a new password. All sessions of the user end, except the returned one.
  /// - Throws: `invalid_request`, `forbidden` for a wrong password, `rate_limited`.
  package func changePassword(of caller: Caller, from current: String, to new: String) async throws -> Session {
    try PasswordHasher.check(new)
    let user = try await record(of: caller)
    try await audit.recordingFailure(caller.audit("user.password", of: "user", user.id.wire, outcome: "ok", at: now)) {
      audit in
      try await confirm(current, of: user)
      let hash = try await hash(new)
      guard try await people.setPassword(user.id, hash: hash, replacing: user.passwordHash, audit: audit) else {
        throw MartletError(.invalidState, "the password was changed by another request meanwhile; log in again")
      }
    }
    return try await session(try await record(of: caller), caller.teamID)
  }

  /// Verifies the user's password, as a session alone does not prove that the caller knows it. Attempts are
  /// rate-limited like logins.
  private func confirm(_ password: String?, of user: UserRecord) async throws {
    guard let password else { throw MartletError(.invalidRequest, "password is required to change the e-mail") }
    try limits.login.admit(user.id.wire)
    guard password.unicodeScalars.count <= PasswordHasher.passwordCharacters.upperBound,
      try await verify(password, against: user.passwordHash)
    else { throw MartletError(.forbidden, "the current password is wrong") }
  }
}

extension Profile {
  init(_ user: UserRecord) {
    self.init(userID: user.id, email: user.email, name: user.name, isAdmin: user.isAdmin, createdAt: user.createdAt)
  }
}
