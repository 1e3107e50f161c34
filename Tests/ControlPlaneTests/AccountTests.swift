import Concurrency
import Foundation
import Model
import Persistence
import Testing

@testable import ControlPlane

extension Plane {
  func signUp(_ email: String, password: String = "correct horse") async throws -> (session: Session, caller: Caller) {
    let session = try await control.accounts.signUp(
      email: email, password: password, name: "Somebody", source: "192.0.2.1")
    return (session, try await caller(session))
  }

  /// The principal of the session's token now.
  func caller(_ session: Session) async throws -> Caller {
    Caller(principal: try await control.authenticator.principal(session: session.token), source: "192.0.2.1")
  }

  func logIn(_ email: String, _ password: String = "correct horse") async throws -> Session {
    try await control.accounts.logIn(email: email, password: password, source: "192.0.2.1")
  }

  /// Actions and outcomes of the audit log, newest first.
  func log(_ team: TeamID) async throws -> [String] {
    await control.housekeeping.flush()
    return try await AuditRepository(database: database).list(team: team, limit: 100).map {
      "\($0.record.action) \($0.record.outcome)"
    }
  }
}

@Suite(.serialized) struct AccountTests {
  @Test(
    "sign-up creates a user who owns a team and is logged in; the e-mail is normalized",
    arguments: SQLDialect.allCases)
  func signUp(dialect: SQLDialect) async throws {
    try await withPlane(dialect) { plane async throws -> Void in
      let (session, caller) = try await plane.signUp("  Ada@Example.com ")
      #expect(session.email == "ada@example.com")
      #expect(caller.principal.role == .owner && caller.teamID == session.teamID && !caller.principal.isAdmin)
      #expect(session.expiresAt == plane.clock.now.addingTimeInterval(6 * 3_600))
      #expect(await code { _ = try await plane.signUp("ADA@example.com") } == .emailTaken)
      #expect(try await plane.logIn("ada@EXAMPLE.com").userID == session.userID)
      #expect(try await plane.log(session.teamID).prefix(3) == ["auth.login ok", "team.create ok", "user.create ok"])
    }
  }

  @Test(
    "two concurrent sign-ups with one e-mail create one user, and nothing of the other", arguments: SQLDialect.allCases)
  func race(dialect: SQLDialect) async throws {
    try await withPlane(dialect) { plane async throws -> Void in
      let codes = await withTaskGroup(of: ErrorCode?.self) { group in
        for _ in 0..<4 { group.addTask { await code { _ = try await plane.signUp("a@b.c") } } }
        return await group.reduce(into: []) { $0.append($1) }
      }
      #expect(codes.count { $0 == nil } == 1)
      #expect(codes.count { $0 == .emailTaken } == 3)
      let teams = try await plane.database.query { try $0.rows("SELECT id FROM teams").count }
      #expect(teams == 2)
    }
  }

  @Test(
    "invalid account data is refused",
    arguments: [("a@b", "correct horse", "N"), ("a@b.c", "short", "N"), ("a@b.c", "correct horse", " "), ("", "", "")],
    SQLDialect.allCases)
  func invalid(_ particulars: (email: String, password: String, name: String), _ dialect: SQLDialect) async throws {
    try await withPlane(dialect) { plane async throws -> Void in
      let accounts = plane.control.accounts
      let refusal = await code {
        _ = try await accounts.signUp(
          email: particulars.email, password: particulars.password, name: particulars.name, source: nil)
      }
      #expect(refusal == .invalidRequest)
    }
  }

  @Test(
    "an unknown e-mail and a wrong password get the same error, after one evaluation of Argon2 each",
    arguments: SQLDialect.allCases)
  func sameAnswer(dialect: SQLDialect) async throws {
    let identity = IdentityConfiguration.forTests
    try await withPlane(dialect, identity: identity) { plane async throws -> Void in
      _ = try await plane.signUp("a@b.c")
      var answers: [String] = []
      for (email, password) in [
        ("a@b.c", "wrong password"), ("x@b.c", "correct horse"), ("not an address", "correct horse"),
      ] {
        let before = identity.hasher.evaluations
        do {
          _ = try await plane.logIn(email, password)
        } catch {
          answers.append("\(error)")
        }
        #expect(identity.hasher.evaluations - before == 1)
      }
      #expect(answers.count == 3 && Set(answers).count == 1)
      #expect(try await plane.log(.platform).filter { $0 == "auth.login unauthorized" }.count == 3)
    }
  }

  @Test("an unknown e-mail and a wrong password take the same time", arguments: SQLDialect.allCases)
  func sameTime(dialect: SQLDialect) async throws {
    let identity = IdentityConfiguration(rates: .none)
    try await withPlane(dialect, identity: identity) { plane async throws -> Void in
      _ = try await plane.signUp("a@b.c")
      var ratio = Double.infinity
      // Compares medians of alternating rounds; repeated if the machine was busy with something else.
      for _ in 0..<4 where !(0.75...1.33).contains(ratio) {
        var times: [String: [Duration]] = [:]
        for _ in 0..<9 {
          for email in ["a@b.c", "unknown@b.c"] {
            let time = await ContinuousClock().measure { _ = try? await plane.logIn(email, "wrong password") }
            times[email, default: []].append(time)
          }
        }
        let medians = times.mapValues { $0.sorted()[4] }
        ratio = (medians["unknown@b.c"] ?? .zero) / (medians["a@b.c"] ?? .zero)
      }
      #expect((0.75...1.33).contains(ratio), "\(ratio)")
    }
  }

  @Test(
    "a password with an outdated hash is hashed again at the next login, and still works",
    arguments: SQLDialect.allCases)
  func rehash(dialect: SQLDialect) async throws {
    try await withPlane(dialect) { plane async throws -> Void in
      let session = try await plane.signUp("a@b.c").session
      let people = PeopleRepository(database: plane.database)
      let weak = try #require(try await people.user(session.userID)).passwordHash
      let stronger = PasswordHasher(parameters: .init(passes: 2, memoryKiB: 128, lanes: 1))
      let control = ControlPlane(
        database: plane.database, hosts: FixedHosts([]), identity: IdentityConfiguration(hasher: stronger),
        dependencies: plane.control.sandboxes.dependencies)
      for _ in 0..<2 { _ = try await control.accounts.logIn(email: "a@b.c", password: "correct horse", source: nil) }
      let strong = try #require(try await people.user(session.userID)).passwordHash
      #expect(strong != weak && !stronger.isOutdated(strong))
      #expect(stronger.evaluations == 3)
      // The password is the same, so sessions remain valid.
      #expect(try await plane.caller(session).principal.role == .owner)
    }
  }

  @Test("a new password ends all sessions except the one that changed it", arguments: SQLDialect.allCases)
  func password(dialect: SQLDialect) async throws {
    try await withPlane(dialect) { plane async throws -> Void in
      let (old, caller) = try await plane.signUp("a@b.c")
      let accounts = plane.control.accounts
      #expect(
        await code { _ = try await accounts.changePassword(of: caller, from: "wrong one", to: "battery staple") }
          == .forbidden)
      #expect(
        await code { _ = try await accounts.changePassword(of: caller, from: "correct horse", to: "short") }
          == .invalidRequest)
      let new = try await accounts.changePassword(of: caller, from: "correct horse", to: "battery staple")
      #expect(await code { _ = try await plane.caller(old) } == .unauthorized)
      #expect(try await plane.caller(new).principal.role == .owner)
      #expect(await code { _ = try await plane.logIn("a@b.c") } == .unauthorized)
      #expect(try await plane.logIn("a@b.c", "battery staple").userID == old.userID)
      #expect(try await plane.log(old.teamID).contains("user.password forbidden"))
    }
  }

  @Test("changing the e-mail requires the password, changing the name does not", arguments: SQLDialect.allCases)
  func profile(dialect: SQLDialect) async throws {
    try await withPlane(dialect) { plane async throws -> Void in
      let (_, caller) = try await plane.signUp("a@b.c")
      _ = try await plane.signUp("taken@b.c")
      let accounts = plane.control.accounts
      func update(_ email: String?, _ name: String?, _ password: String?) async -> ErrorCode? {
        await code { _ = try await accounts.updateProfile(of: caller, email: email, name: name, password: password) }
      }
      #expect(await update(nil, " New Name ", nil) == nil)
      #expect(try await accounts.profile(of: caller).name == "New Name")
      #expect(await update("new@b.c", nil, nil) == .invalidRequest)
      #expect(await update("new@b.c", nil, "wrong password") == .forbidden)
      #expect(await update("taken@b.c", nil, "correct horse") == .emailTaken)
      #expect(await update("New@b.c", nil, "correct horse") == nil)
      #expect(try await plane.logIn("new@b.c").email == "new@b.c")
    }
  }

  @Test("login selects the default team, else the earliest joined, else fails", arguments: SQLDialect.allCases)
  func teamOfLogin(dialect: SQLDialect) async throws {
    try await withPlane(dialect) { plane async throws -> Void in
      let (session, caller) = try await plane.signUp("a@b.c")
      let second = try await plane.control.teams.create(name: "second", for: caller)
      #expect(try await plane.logIn("a@b.c").teamID == session.teamID)
      let switched = try await plane.control.accounts.switchTeam(to: second.team.id, for: caller)
      #expect(try await plane.caller(switched).teamID == second.team.id)
      let (outsider, _) = try await plane.signUp("x@b.c")
      #expect(
        await code { _ = try await plane.control.accounts.switchTeam(to: outsider.teamID, for: caller) } == .notFound)
      try await plane.control.teams.delete(session.teamID, for: caller)
      #expect(try await plane.logIn("a@b.c").teamID == second.team.id)
      try await plane.control.teams.delete(second.team.id, for: caller)
      #expect(await code { _ = try await plane.logIn("a@b.c") } == .noTeam)
    }
  }

  @Test(
    "logins and sign-ups are rate-limited per address, and admitted again after some time",
    arguments: SQLDialect.allCases)
  func limits(dialect: SQLDialect) async throws {
    var identity = IdentityConfiguration.forTests
    identity.rates.login = Rate(burst: 2, perSecond: 0.1)
    identity.rates.signUp = Rate(burst: 1, perSecond: 0.1)
    try await withPlane(dialect, identity: identity) { plane async throws -> Void in
      _ = try await plane.signUp("a@b.c")
      #expect(await code { _ = try await plane.signUp("b@b.c") } == .rateLimited)
      for _ in 0..<2 { #expect(await code { _ = try await plane.logIn("a@b.c", "wrong password") } == .unauthorized) }
      #expect(await code { _ = try await plane.logIn("a@b.c") } == .rateLimited)
      #expect(
        try await plane.control.accounts.logIn(email: "a@b.c", password: "correct horse", source: "192.0.2.9").email
          == "a@b.c")
      plane.clock.advance(by: 10)
      #expect(try await plane.logIn("a@b.c").email == "a@b.c")
    }
  }

  @Test(
    "of a thousand concurrent logins a few run at a time, and every one gets a response", arguments: SQLDialect.allCases
  )
  func flood(dialect: SQLDialect) async throws {
    var identity = IdentityConfiguration.forTests
    let slots = AsyncSemaphore(permits: 2, maximumWaiters: 16, queueFull: PasswordHasher.tooManyLogins)
    identity.hasher = PasswordHasher(parameters: .init(passes: 1, memoryKiB: 1_024, lanes: 1), evaluationSlots: slots)
    try await withPlane(dialect, identity: identity) { plane async throws -> Void in
      _ = try await plane.signUp("a@b.c")
      let codes = await withTaskGroup(of: ErrorCode?.self) { group in
        for _ in 0..<1_000 { group.addTask { await code { _ = try await plane.logIn("a@b.c") } } }
        return await group.reduce(into: [ErrorCode?: Int]()) { $0[$1, default: 0] += 1 }
      }
      #expect(Set(codes.keys).isSubset(of: [nil, .rateLimited]))
      #expect(codes[ErrorCode?.none] ?? 0 > 0)
      #expect(slots.peak <= 2)
      #expect(try await plane.logIn("a@b.c").email == "a@b.c")
    }
  }

  @Test("if sign-up is closed, administrators can create accounts", arguments: SQLDialect.allCases)
  func closed(dialect: SQLDialect) async throws {
    var identity = IdentityConfiguration.forTests
    identity.allowsSignUp = false
    try await withPlane(dialect, identity: identity) { plane async throws -> Void in
      #expect(await code { _ = try await plane.signUp("a@b.c") } == .forbidden)
      let service = plane.control.admin
      let (profile, team) = try await service.createLocalUser(
        email: "a@b.c", password: "correct horse", name: "A", isAdmin: true)
      let session = try await plane.logIn("a@b.c")
      #expect(session.teamID == team)
      let admin = try await plane.caller(session)
      let (other, _) = try await service.createUser(
        email: "c@b.c", password: "correct horse", name: "C", isAdmin: false, for: admin)
      #expect(try await plane.logIn("c@b.c").userID == other.userID)
      #expect(await code { _ = try await service.setAdmin(profile.userID, false, for: admin) } == .invalidState)
      #expect(
        await code {
          _ = try await service.createUser(
            email: "b@b.c", password: "correct horse", name: "B", isAdmin: true, for: plane.caller)
        } == .forbidden)
    }
  }
}
