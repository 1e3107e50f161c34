import Concurrency
import Dispatch
import Foundation
import Model
import TestSupport
import Testing

@testable import Persistence

@Suite("Look-ups by key")
struct LookUpTests {
  private final class Acknowledged: Sendable {
    let number = Mutex(0)
  }

  private static let byID = "SELECT name FROM teams WHERE id = ?"

  private func name(_ database: any Database, _ id: TeamID) async throws -> String? {
    try await database.lookUp(Self.byID, [.uuid(id.uuid)])?.text(0)
  }

  private func insert(_ database: any Database, _ name: String) async throws -> TeamID {
    let team = TeamRecord(name: name, createdAt: Date())
    try await PeopleRepository(database: database).ensureTeam(team)
    return team.id
  }

  @Test("A look-up sees what was committed before it", arguments: SQLDialect.allCases)
  func fresh(dialect: SQLDialect) async throws {
    try await withDatabase(dialect) { database in
      let absent = TeamID()
      #expect(try await name(database, absent) == nil)
      for number in 0..<20 {
        let id = try await insert(database, "team \(number)")
        #expect(try await name(database, id) == "team \(number)")
      }
    }
  }

  @Test("Many concurrent look-ups are all answered while another task writes", arguments: SQLDialect.allCases)
  func concurrent(dialect: SQLDialect) async throws {
    try await withDatabase(dialect) { database in
      let id = try await insert(database, "steady")
      try await withThrowingTaskGroup(of: String?.self) { group in
        for number in 0..<200 {
          group.addTask { try await name(database, id) }
          if number % 20 == 0 { _ = try await insert(database, "another \(number)") }
        }
        for try await found in group { #expect(found == "steady") }
      }
    }
  }

  @Test("A transaction in progress does not block a look-up, and is not visible to it", arguments: SQLDialect.allCases)
  func besideAWriter(dialect: SQLDialect) async throws {
    try await withDatabase(dialect) { database in
      let id = try await insert(database, "before")
      let began = Mutex(false)
      let lookedUp = DispatchSemaphore(value: 0)
      async let isInTime = database.write { connection in
        try connection.execute("UPDATE teams SET name = 'after' WHERE id = ?", [.uuid(id.uuid)])
        began.withLock { $0 = true }
        return lookedUp.wait(timeout: .now() + 30) == .success
      }
      while !began.withLock({ $0 }) { try await Task.sleep(for: .milliseconds(2)) }
      #expect(try await name(database, id) == "before")
      lookedUp.signal()
      #expect(try await isInTime)
      #expect(try await name(database, id) == "after")
    }
  }

  @Test("Look-ups of a closed database fail")
  func closed() async throws {
    try await withFile { path in
      let database = try SQLiteDatabase(path: path)
      try await Migrator(database: database).migrateUp()
      let id = try await insert(database, "team")
      #expect(try await name(database, id) == "team")
      try await database.close()
      await #expect(throws: PersistenceError.self) { try await name(database, id) }
    }
  }

  @Test(
    "No look-up that begins after an acknowledged write returns the row from before it",
    arguments: SQLDialect.allCases)
  func neverOlderThanAcknowledged(dialect: SQLDialect) async throws {
    try await withDatabase(dialect) { database in
      let id = try await insert(database, "0")
      let acknowledged = Acknowledged()
      try await withThrowingTaskGroup(of: Void.self) { group in
        for _ in 0..<4 {
          group.addTask {
            while true {
              let least = acknowledged.number.withLock { $0 }
              let found = try await Int(name(database, id) ?? "")
              #expect(try #require(found) >= least)
              if least == 200 { return }
              await Task.yield()
            }
          }
        }
        for number in 1...200 {
          try await database.write { connection in
            _ = try connection.execute("UPDATE teams SET name = ? WHERE id = ?", [.text("\(number)"), .uuid(id.uuid)])
          }
          acknowledged.number.withLock { $0 = number }
        }
        try await group.waitForAll()
      }
    }
  }

  @Test(
    "In a batch, a failing look-up gets its error and the others get their rows",
    arguments: SQLDialect.allCases)
  func failingNeighbour(dialect: SQLDialect) async throws {
    try await withDatabase(dialect) { database in
      let id = try await insert(database, "steady")
      // One fails before it is sent, one when it is prepared, and one while it runs.
      let always = ["SELECT name FROM teams WHERE id = ? AND name = ?", "SELECT name FROM no_such_table WHERE id = ?"]
      let sometimes = ["SELECT name FROM teams WHERE id = ? AND 1 / (length(name) - length(name)) = 1"]
      let wrong = dialect == .postgresql ? always + sometimes : always
      let outcomes = try await withThrowingTaskGroup(of: (isWrong: Bool, name: String?).self) { group in
        for number in 0..<300 {
          group.addTask {
            guard number % 7 == 0 else { return (false, try await name(database, id)) }
            let sql = wrong[number / 7 % wrong.count]
            await #expect(throws: PersistenceError.self) { try await database.lookUp(sql, [.uuid(id.uuid)]) }
            return (true, nil)
          }
        }
        return try await group.reduce(into: []) { $0.append($1) }
      }
      #expect(outcomes.filter { !$0.isWrong }.allSatisfy { $0.name == "steady" })
      #expect(outcomes.count { $0.isWrong } == 43)
      #expect(try await name(database, TeamID()) == nil)
    }
  }

  @Test("Look-ups beyond the queue's bound are refused at once, the others are answered")
  func noRoom() async throws {
    try await withTestDatabase(.postgresql) { database, store async throws -> Void in
      let id = try await insert(database, "steady")
      let small = try store.connect { $0.maximumWaiting = 4 }
      let outcomes = try await withThrowingTaskGroup(of: Bool.self) { group in
        for _ in 0..<400 {
          group.addTask {
            do {
              return try await name(small, id) == "steady"
            } catch let error as PersistenceError {
              guard case .unavailable("too many calls wait for a connection") = error else { throw error }
              return false
            }
          }
        }
        return try await group.reduce(into: []) { $0.append($1) }
      }
      #expect(outcomes.contains(true) && outcomes.contains(false))
      #expect(try await name(small, id) == "steady")
      try await small.close()
    }
  }

  @Test("The first look-up after a delete does not find the row", arguments: SQLDialect.allCases)
  func deleted(dialect: SQLDialect) async throws {
    try await withDatabase(dialect) { database in
      let id = try await insert(database, "team")
      #expect(try await name(database, id) == "team")
      try await database.write { _ = try $0.execute("DELETE FROM teams WHERE id = ?", [.uuid(id.uuid)]) }
      #expect(try await name(database, id) == nil)
    }
  }

  @Test("Commits of another program to the file are noticed")
  func foreignCommit() async throws {
    try await withFile { path in
      let ours = try SQLiteDatabase(path: path)
      try await Migrator(database: ours).migrateUp()
      let id = try await insert(ours, "before")
      #expect(try await name(ours, id) == "before")
      let theirs = try SQLiteDatabase(path: path)
      try await theirs.write { _ = try $0.execute("UPDATE teams SET name = 'after' WHERE id = ?", [.uuid(id.uuid)]) }
      let deadline = ContinuousClock.now + .seconds(30)
      while try await name(ours, id) != "after" {
        try #require(ContinuousClock.now < deadline)
        try await Task.sleep(for: .milliseconds(5))
      }
      try await theirs.close()
      try await ours.close()
    }
  }

  @Test("Values are read as they were bound, including empty and unusual ones", arguments: SQLDialect.allCases)
  func binding(dialect: SQLDialect) async throws {
    try await withDatabase(dialect) { database in
      for text in ["", "ö", "a\u{1F600}b", String(repeating: "x", count: 70_000), "'; DROP TABLE teams; --"] {
        let id = try await insert(database, text)
        #expect(try await name(database, id) == text)
        let found = try await database.query { connection in
          try connection.rows("SELECT name FROM teams WHERE name = ? AND id = ?", [.text(text), .uuid(id.uuid)]).map {
            try $0.text(0)
          }
        }
        #expect(found == [text])
      }
    }
  }

  private func withFile(_ body: (String) async throws -> Void) async throws {
    let directory = FileManager.default.temporaryDirectory.appendingPathComponent("martlet-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: directory) }
    try await body(directory.appendingPathComponent("martlet.db").path)
  }
}

@Suite("Row cache of look-ups")
struct RowCacheTests {
  private static func key(_ number: Int) -> RowCache.Key {
    RowCache.Key(sql: "SELECT", parameters: [.integer(Int64(number))])
  }

  private func withCache(_ body: (SQLiteRowCache) throws -> Void) async throws {
    let directory = FileManager.default.temporaryDirectory.appendingPathComponent("martlet-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: directory) }
    let path = directory.appendingPathComponent("martlet.db").path
    let database = try SQLiteDatabase(path: path)
    let externalCommits = try ExternalCommits(path: path)
    try body(SQLiteRowCache(externalCommits: externalCommits))
    try externalCommits.close()
    try await database.close()
  }

  @Test("A row that was read before a commit is not cached after it")
  func superseded() async throws {
    try await withCache { cache in
      let (found, version) = try cache.row(Self.key(1))
      #expect(found == nil)
      cache.invalidate()
      cache.keep(SQLRow([.text("old")]), Self.key(1), version: version)
      #expect(try cache.row(Self.key(1)).row == nil)
      cache.keep(SQLRow([.text("new")]), Self.key(1), version: try cache.row(Self.key(1)).version)
      #expect(try cache.row(Self.key(1)).row?.text(0) == "new")
    }
  }

  @Test("Neither many rows nor long rows exceed the cache's memory bound")
  func bounded() async throws {
    try await withCache { cache in
      let version = try cache.row(Self.key(0)).version
      cache.keep(
        SQLRow([.text(String(repeating: "x", count: RowCache.maximumRowBytes + 1))]), Self.key(0), version: version)
      #expect(try cache.row(Self.key(0)).row == nil)
      for number in 0...RowCache.maximumRows {
        cache.keep(SQLRow([.text("row")]), Self.key(number), version: try cache.row(Self.key(number)).version)
      }
      let kept = try (0...RowCache.maximumRows).filter { try cache.row(Self.key($0)).row != nil }
      #expect(kept == [RowCache.maximumRows])
    }
  }
}
