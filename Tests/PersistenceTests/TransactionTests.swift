import Concurrency
import Foundation
import Model
import Persistence
import TestSupport
import Testing

/// The guarantees that repositories rely on, for every database system.
@Suite struct TransactionTests {
  @Test("a transaction that throws is rolled back", arguments: SQLDialect.allCases)
  func rollback(dialect: SQLDialect) async throws {
    struct Stop: Error {}
    try await withDatabase(dialect) { database async throws -> Void in
      await #expect(throws: Stop.self) {
        try await database.write { connection in
          try connection.execute(Self.insertTeam, Self.team("lost"))
          throw Stop()
        }
      }
      #expect(try await Self.teams(database) == 0)
    }
  }

  @Test(
    "two programs that read before they write are serialized",
    arguments: SQLDialect.allCases)
  func writeSkew(dialect: SQLDialect) async throws {
    try await withTestDatabase(dialect) { database, store async throws -> Void in
      let other = try store.connect()
      let made = try await withThrowingTaskGroup(of: Bool.self) { group in
        for index in 0..<12 {
          let chosen = index.isMultiple(of: 2) ? database : other
          group.addTask {
            try await chosen.write { connection in
              guard try connection.row("SELECT count(*) FROM teams", [])?.integer(0) ?? 0 < 3 else { return false }
              try connection.execute(Self.insertTeam, Self.team("\(index)"))
              return true
            }
          }
        }
        return try await group.reduce(0) { $0 + ($1 ? 1 : 0) }
      }
      #expect(made == 3)
      #expect(try await Self.teams(database) == 3)
      try await other.close()
    }
  }

  @Test("a read sees one state of the database, however long it takes", arguments: SQLDialect.allCases)
  func snapshot(dialect: SQLDialect) async throws {
    try await withDatabase(dialect) { database async throws -> Void in
      let written = DispatchSemaphore(value: 0)
      let looked = DispatchSemaphore(value: 0)
      async let counts = database.read { connection in
        let before = try connection.row("SELECT count(*) FROM teams", [])?.integer(0)
        looked.signal()
        #expect(written.wait(timeout: .now() + 20) == .success)
        return (before, try connection.row("SELECT count(*) FROM teams", [])?.integer(0))
      }
      let isLooking = await withCheckedContinuation { continuation in
        Thread.detachNewThread { continuation.resume(returning: looked.wait(timeout: .now() + 20) == .success) }
      }
      #expect(isLooking)
      _ = try await database.write { try $0.execute(Self.insertTeam, Self.team("new")) }
      written.signal()
      let (before, after) = try await counts
      #expect(before == 0)
      #expect(after == 0)
      #expect(try await Self.teams(database) == 1)
    }
  }

  @Test("a read cannot write", arguments: SQLDialect.allCases)
  func readOnly(dialect: SQLDialect) async throws {
    try await withDatabase(dialect) { database async throws -> Void in
      let insertion: @Sendable (any SQLConnection) throws -> Int = { try $0.execute(Self.insertTeam, Self.team("no")) }
      await #expect(throws: PersistenceError.self) { _ = try await database.query(insertion) }
      await #expect(throws: PersistenceError.self) { _ = try await database.read(insertion) }
      #expect(try await Self.teams(database) == 0)
    }
  }

  @Test("constraint violations are reported alike by both databases", arguments: SQLDialect.allCases)
  func constraints(dialect: SQLDialect) async throws {
    try await withDatabase(dialect) { database async throws -> Void in
      let team = Self.team("a")
      _ = try await database.write { try $0.execute(Self.insertTeam, team) }
      let again = await #expect(throws: PersistenceError.self) {
        try await database.write { try $0.execute(Self.insertTeam, team) }
      }
      guard case .duplicate = again else { throw PersistenceError.failed("\(String(describing: again))") }
      let orphan: [SQLValue] = [.uuid(UUID()), .uuid(UUID()), .text("owner"), .bool(true), .timestamp(Date())]
      let refused = await #expect(throws: PersistenceError.self) {
        try await database.write {
          try $0.execute(
            "INSERT INTO memberships (team_id, user_id, role, is_default, joined_at) VALUES (?, ?, ?, ?, ?)", orphan)
        }
      }
      guard case .constraint = refused else { throw PersistenceError.failed("\(String(describing: refused))") }
    }
  }

  @Test("every kind of value is read as it was written", arguments: SQLDialect.allCases)
  func values(dialect: SQLDialect) async throws {
    try await withDatabase(dialect) { database async throws -> Void in
      let times = [
        "1970-01-01T00:00:00Z", "1999-12-31T23:59:59Z", "2024-02-29T12:34:56Z", "0001-01-01T00:00:00Z",
        "9999-12-31T23:59:59Z",
      ].compactMap { try? Date($0, strategy: .iso8601) }
      #expect(times.count == 5)
      let teams = try await makeTeam(database)
      for (index, time) in times.enumerated() {
        let exact = time.addingTimeInterval(0.123_456)
        let key = APIKeyRecord(
          teamID: teams, name: "q'\"\\ü€😀\n\t", keyPrefix: "", keyHash: [0, 255, UInt8(index)], createdBy: nil,
          createdAt: exact)
        try await APIKeyRepository(database: database).insert(key, audit: audit(teams))
        #expect(try await APIKeyRepository(database: database).key(hash: key.keyHash) == key)
      }
    }
  }

  @Test("after close every call fails", arguments: SQLDialect.allCases)
  func closed(dialect: SQLDialect) async throws {
    try await withTestDatabase(dialect) { _, store async throws -> Void in
      let database = try store.connect()
      _ = try await Self.teams(database)
      try await database.close()
      await #expect(throws: PersistenceError.self) { _ = try await Self.teams(database) }
    }
  }

  private static let insertTeam = "INSERT INTO teams (id, name, created_at) VALUES (?, ?, ?)"

  private static func team(_ name: String) -> [SQLValue] { [.uuid(UUID()), .text(name), .timestamp(Date())] }

  private static func teams(_ database: any Database) async throws -> Int {
    try await database.query { try $0.row("SELECT count(*) FROM teams", [])?.integer(0) ?? -1 }
  }
}
