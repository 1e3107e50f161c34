import Foundation
import Logging
import Model
import Persistence
import Testing

@testable import ControlPlane

@Suite(.serialized) struct IdentityTests {
  @Test("the first run creates an administrator and a working key, once", arguments: SQLDialect.allCases)
  func bootstrap(dialect: SQLDialect) async throws {
    try await withPlane(dialect) { plane async throws -> Void in
      let hasher = PasswordHasher()
      let bootstrap = Bootstrap(
        database: plane.database, hasher: hasher, dependencies: Dependencies(logger: Logger(label: "test")))
      let credentials = try #require(try await bootstrap.run(url: "http://127.0.0.1:8080"))
      #expect(credentials.apiKey.wholeMatch(of: /mrt_[0-9a-f]{40}/) != nil)
      let user = try #require(try await PeopleRepository(database: plane.database).user(email: credentials.adminEmail))
      #expect(user.passwordHash.hasPrefix("$argon2id$v=19$m=19456,t=2,p=1$"))
      #expect(try await hasher.verify(credentials.adminPassword, against: user.passwordHash))
      #expect(try await hasher.verify("wrong password", against: user.passwordHash) == false)
      let principal = try await plane.control.authenticator.principal(apiKey: credentials.apiKey)
      #expect(principal.teamID != .platform)
      #expect(try await TeamRepository(database: plane.database).team(.platform)?.name == "platform")
      #expect(try await bootstrap.run(url: "http://127.0.0.1:8080") == nil)
    }
  }

  @Test("the key's secret is not stored in the database", arguments: SQLDialect.allCases)
  func keyAtRest(dialect: SQLDialect) async throws {
    try await withPlane(dialect) { plane async throws -> Void in
      let bootstrap = Bootstrap(
        database: plane.database, hasher: PasswordHasher(), dependencies: Dependencies(logger: Logger(label: "test")))
      let credentials = try #require(try await bootstrap.run(url: ""))
      let keys = try await plane.database.query {
        try $0.rows("SELECT key_hash, key_prefix FROM api_keys").map { row in
          try row.blob(0).map { String(format: "%02x", $0) }.joined() + row.text(1)
        }
      }
      let digits = credentials.apiKey.dropFirst(4)
      #expect(keys.allSatisfy { !$0.lowercased().contains(digits) })
    }
  }

  @Test("the same secret with E2B's prefix is the same key")
  func compatiblePrefix() throws {
    let secret = APIKeySecret.random()
    let digits = secret.text.dropFirst(4)
    #expect(APIKeySecret("e2b_\(digits)") == secret)
    #expect(APIKeySecret.random() != secret)
  }

  @Test(
    "malformed keys are unauthorized",
    arguments: [
      "", "mrt_", "mrt_xyz", "MRT_0000000000000000000000000000000000000000",
      "mrt_00000000000000000000000000000000000000zz",
      "mrt_0000000000000000000000000000000000000000\n", "Bearer x", String(repeating: "a", count: 10_000),
    ])
  func malformed(key: String) async throws {
    try await withPlane { plane async throws -> Void in
      #expect(await code { _ = try await plane.control.authenticator.principal(apiKey: key) } == .unauthorized)
    }
  }

  @Test("a missing, an unknown and a deleted key are unauthorized", arguments: SQLDialect.allCases)
  func refused(dialect: SQLDialect) async throws {
    try await withPlane(dialect) { plane async throws -> Void in
      let authenticator = plane.control.authenticator
      #expect(await code { _ = try await authenticator.principal(apiKey: nil) } == .unauthorized)
      #expect(await code { _ = try await authenticator.principal(apiKey: APIKeySecret.random().text) } == .unauthorized)
      let secret = APIKeySecret.random()
      let keys = APIKeyRepository(database: plane.database)
      let key = APIKeyRecord(
        teamID: plane.caller.teamID, name: "k", keyPrefix: secret.shownPrefix, keyHash: secret.hash, createdBy: nil,
        createdAt: Date())
      let audit = plane.caller.audit("api_key.create", of: "api_key", key.id.wire, outcome: "ok", at: Date())
      try await keys.insert(key, audit: audit)
      #expect(try await authenticator.principal(apiKey: secret.text).teamID == plane.caller.teamID)
      _ = try await keys.delete(key.id, team: plane.caller.teamID, audit: audit)
      #expect(await code { _ = try await authenticator.principal(apiKey: secret.text) } == .unauthorized)
    }
  }

  @Test("uses of a key are collected and written together", arguments: SQLDialect.allCases)
  func lastUsed(dialect: SQLDialect) async throws {
    try await withPlane(dialect) { plane async throws -> Void in
      let secret = APIKeySecret.random()
      let keys = APIKeyRepository(database: plane.database)
      let key = APIKeyRecord(
        teamID: plane.caller.teamID, name: "k", keyPrefix: secret.shownPrefix, keyHash: secret.hash, createdBy: nil,
        createdAt: Date())
      try await keys.insert(key, audit: plane.caller.audit("x", of: "y", "z", outcome: "ok", at: Date()))
      for _ in 0..<10 { _ = try await plane.control.authenticator.principal(apiKey: secret.text) }
      #expect(try await keys.list(team: plane.caller.teamID).first?.lastUsed == nil)
      await plane.control.housekeeping.flush()
      #expect(try await keys.list(team: plane.caller.teamID).first?.lastUsed == plane.clock.now)
    }
  }
}
