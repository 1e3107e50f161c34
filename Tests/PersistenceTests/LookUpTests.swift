import Dispatch
import Foundation
import Model
import Synchronization
import Testing

@testable import Persistence

@Suite("Look-ups by key")
struct LookUpTests {
  private static let byID = "SELECT name FROM teams WHERE id = ?"

  private func name(_ database: any Database, _ id: TeamID) async throws -> String? {
    try await database.lookUp(Self.byID, [.uuid(id.uuid)])?.text(0)
  }

  private func insert(_ database: any Database, _ name: String) async throws -> TeamID {
    let team = TeamRecord(name: name, createdAt: Date())
    try await PeopleRepository(database: database).ensureTeam(team)
    return team.id
  }

  @Test("A look-up sees what was committed before it")
  func fresh() async throws {
    try await withDatabase { database in
      let absent = TeamID()
      #expect(try await name(database, absent) == nil)
      for number in 0..<20 {
        let id = try await insert(database, "team \(number)")
        #expect(try await name(database, id) == "team \(number)")
      }
    }
  }

  @Test("Many look-ups at once are all answered, while somebody writes")
  func concurrent() async throws {
    try await withDatabase { database in
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

  @Test("A transaction in progress does not hold a look-up up, and is not seen")
  func besideAWriter() async throws {
    try await withDatabase { database in
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
    let directory = FileManager.default.temporaryDirectory.appendingPathComponent("martlet-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: directory) }
    let database = try SQLiteDatabase(path: directory.appendingPathComponent("martlet.db").path)
    try await Migrator(database: database).migrateUp()
    let id = try await insert(database, "team")
    #expect(try await name(database, id) == "team")
    try await database.close()
    await #expect(throws: PersistenceError.self) { try await name(database, id) }
  }
}
