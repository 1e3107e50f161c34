import Foundation
import Logging
import Model
import Persistence
import TestSupport
import Testing

@testable import ControlPlane

/// Rate limits come before look-ups in the database.
@Suite struct KeyLimitTests {
  private struct Fixture {
    let plane: Plane
    let database: FaultyDatabase
    let authenticator: Authenticator

    init(_ plane: Plane, _ rates: RateLimits.Rates) {
      self.plane = plane
      database = FaultyDatabase(plane.database)
      var identity = IdentityConfiguration.forTests
      identity.rates = rates
      var logger = Logger(label: "test")
      logger.logLevel = .critical
      let clock = plane.clock
      authenticator =
        ControlPlane(
          database: database, hosts: FixedHosts([plane.host]), identity: identity,
          dependencies: Dependencies(now: { clock.now }, logger: logger)
        ).authenticator
    }

    func makeKey() async throws -> String {
      let secret = APIKeySecret.random()
      let key = APIKeyRecord(
        teamID: plane.caller.teamID, name: "k", keyPrefix: secret.shownPrefix, keyHash: secret.hash, createdBy: nil,
        createdAt: Date())
      let audit = plane.caller.audit("api_key.create", of: "api_key", key.id.wire, outcome: "ok", at: Date())
      try await APIKeyRepository(database: plane.database).insert(key, audit: audit)
      return secret.text
    }

    func authenticate(_ key: String, from address: String) async -> ErrorCode? {
      await code {
        _ = try await authenticator.authenticate(PresentedCredentials(apiKey: key, source: address))
      }
    }
  }

  private static let rates = RateLimits.Rates(
    calls: nil, unknownKeys: Rate(burst: 5, perSecond: 1))

  @Test("invalid keys of one address reach the database only a few times", arguments: SQLDialect.allCases)
  func unknownKeys(dialect: SQLDialect) async throws {
    try await withPlane(dialect) { plane async throws -> Void in
      let fixture = Fixture(plane, Self.rates)
      let (known, new) = (try await fixture.makeKey(), try await fixture.makeKey())
      #expect(await fixture.authenticate(known, from: "192.0.2.1") == nil)
      let before = fixture.database.reads
      var codes: [ErrorCode?] = []
      for _ in 0..<200 {
        codes.append(await fixture.authenticate(APIKeySecret.random().text, from: "192.0.2.1"))
      }
      #expect(codes == Array(repeating: .unauthorized, count: 5) + Array(repeating: .rateLimited, count: 195))
      #expect(fixture.database.reads - before == 5)
      // A key that is known works from there, and every key from elsewhere.
      #expect(await fixture.authenticate(known, from: "192.0.2.1") == nil)
      #expect(await fixture.authenticate(new, from: "192.0.2.1") == .rateLimited)
      #expect(await fixture.authenticate(new, from: "192.0.2.2") == nil)
      #expect(await fixture.authenticate(new, from: "192.0.2.1") == nil)
      plane.clock.advance(by: 2)
      #expect(await fixture.authenticate(APIKeySecret.random().text, from: "192.0.2.1") == .unauthorized)
    }
  }

  @Test("valid keys cost an address nothing, however many it has")
  func validKeys() async throws {
    try await withPlane { plane async throws -> Void in
      let fixture = Fixture(plane, Self.rates)
      for _ in 0..<20 {
        #expect(await fixture.authenticate(try await fixture.makeKey(), from: "192.0.2.1") == nil)
      }
    }
  }

  @Test("a key that was deleted is an invalid one from its next use on")
  func deletedKey() async throws {
    try await withPlane { plane async throws -> Void in
      let fixture = Fixture(plane, Self.rates)
      let key = try await fixture.makeKey()
      #expect(await fixture.authenticate(key, from: "192.0.2.1") == nil)
      let keys = APIKeyRepository(database: plane.database)
      for record in try await keys.list(team: plane.caller.teamID) {
        let audit = plane.caller.audit("api_key.delete", of: "api_key", record.id.wire, outcome: "ok", at: Date())
        _ = try await keys.delete(record.id, team: plane.caller.teamID, audit: audit)
      }
      let before = fixture.database.reads
      for _ in 0..<50 { #expect(await fixture.authenticate(key, from: "192.0.2.1") != nil) }
      #expect(fixture.database.reads - before == 6)
    }
  }

  @Test("a database that is away uses up no address's share")
  func outage() async throws {
    try await withPlane { plane async throws -> Void in
      let fixture = Fixture(plane, Self.rates)
      let key = try await fixture.makeKey()
      fixture.database.fail { _ in .unavailable("away") }
      for _ in 0..<20 {
        #expect(await fixture.authenticate(key, from: "192.0.2.1") == .databaseUnavailable)
      }
      fixture.database.fail(nil)
      #expect(await fixture.authenticate(key, from: "192.0.2.1") == nil)
    }
  }

  @Test("a key that is used too often is refused before the database is asked")
  func calls() async throws {
    try await withPlane { plane async throws -> Void in
      let fixture = Fixture(plane, RateLimits.Rates(calls: Rate(burst: 3, perSecond: 1)))
      let key = try await fixture.makeKey()
      for _ in 0..<3 { #expect(await fixture.authenticate(key, from: "192.0.2.1") == nil) }
      let before = fixture.database.reads
      for _ in 0..<20 { #expect(await fixture.authenticate(key, from: "192.0.2.1") == .rateLimited) }
      #expect(fixture.database.reads == before)
    }
  }
}
