import Concurrency
import Foundation
import Model
import TestSupport
import Testing

@testable import Persistence

/// The row cache of a PostgreSQL database, beside other programs on the same server.
@Suite("Row cache on PostgreSQL")
struct KeptRowTests {
  private static let name = "SELECT name, clock_timestamp() FROM teams WHERE id = ?"
  private static let sameName = "SELECT name, created_at FROM teams WHERE id = ?"
  private static let rename = "UPDATE teams SET name = ? WHERE id = ?"

  /// The time at which the server read the row.
  private func moment(
    _ database: any Database, _ id: TeamID, notBefore version: DatabaseVersion? = nil
  ) async throws -> LookUpResult<Date?> {
    try await database.find(Self.name, [.uuid(id.uuid)], notBefore: version).map { try $0?.date(1) }
  }

  private func expectLater(_ after: LookUpResult<Date?>, than before: LookUpResult<Date?>) throws {
    let (readAfter, readBefore) = (try #require(after.value), try #require(before.value))
    #expect(readAfter > readBefore)
    let (newVersion, oldVersion) = (try #require(after.version), try #require(before.version))
    #expect(newVersion > oldVersion)
  }

  private func number(_ result: LookUpResult<SQLRow?>) throws -> Int {
    let row = try #require(result.value)
    return try #require(Int(row.text(0)))
  }

  /// Runs on a server to which no other program writes.
  private func withServer(_ body: (any Database, TestDatabase, PrivatePostgres) async throws -> Void) async throws {
    let server = try await PrivatePostgres.start()
    try await withTestDatabase(.postgresql, on: server) { try await body($0, $1, server) }
    await server.stop()
  }

  private func eventually(_ condition: () async throws -> Bool) async throws -> Bool {
    for _ in 0..<1_000 {
      if try await condition() { return true }
      try await Task.sleep(for: .milliseconds(10))
    }
    return false
  }

  /// A transaction that changes a row and is rolled back.
  private func abort(_ database: any Database) async {
    await #expect(throws: CancellationError.self) {
      try await database.write { connection in
        try connection.execute(
          "INSERT INTO teams (id, name, created_at) VALUES (?, 'x', now())", [.uuid(TeamID().uuid)])
        throw CancellationError()
      }
    }
  }

  private func isKept(_ database: any Database, _ id: TeamID) async throws -> Bool {
    try await eventually { try await moment(database, id).value == moment(database, id).value }
  }

  @Test("a cached row is read again after any program has committed, and not before")
  func kept() async throws {
    try await withServer { ours, store, _ in
      let theirs = try store.connect()
      let id = try await makeTeam(ours)
      for _ in 0..<20 {
        #expect(try await isKept(ours, id))
        let before = try await moment(ours, id)
        try await theirs.write { _ = try $0.execute(Self.rename, [.text("other"), .uuid(id.uuid)]) }
        try expectLater(await moment(ours, id), than: before)
      }
      try await theirs.close()
    }
  }

  @Test("a caller that accepts the cached version causes no query")
  func notBefore() async throws {
    try await withServer { ours, store, _ in
      let theirs = try store.connect()
      let id = try await makeTeam(ours)
      // The server commits transactions of its own too.
      let isUsed = try await eventually {
        let newest = try await moment(ours, id)
        try await theirs.write { _ = try $0.execute(Self.rename, [.text("other"), .uuid(id.uuid)]) }
        let same = try await moment(ours, id, notBefore: newest.version)
        #expect(try await moment(ours, id).value != newest.value)
        return same.value == newest.value
      }
      #expect(isUsed)
      try await theirs.close()
    }
  }

  @Test(
    "every look-up that begins after another program's acknowledged commit sees that commit", .timeLimit(.minutes(5)))
  func neverOlderThanAcknowledgedElsewhere() async throws {
    try await withTestDatabase(.postgresql) { ours, store async throws -> Void in
      let theirs = try store.connect()
      let id = try await makeTeam(ours)
      let race = Race()
      try await theirs.write { _ = try $0.execute(Self.rename, [.text("0"), .uuid(id.uuid)]) }
      try await withThrowingTaskGroup(of: Void.self) { group in
        for _ in 0..<4 {
          group.addTask {
            while !race.isOver {
              let least = race.acknowledged
              let first = try await ours.find(Self.name, [.uuid(id.uuid)], notBefore: nil)
              #expect(try number(first) >= least)
              let second = try await ours.find(Self.sameName, [.uuid(id.uuid)], notBefore: first.version)
              #expect(try number(second) >= least)
              let row = try #require(first.value)
              race.note(try row.date(1))
            }
          }
        }
        for number in 1...1_000 {
          try await theirs.write { _ = try $0.execute(Self.rename, [.text("\(number)"), .uuid(id.uuid)]) }
          race.acknowledge(number)
          // In quick succession, and with pauses in which rows are cached and used.
          if number.isMultiple(of: 4) { try await race.progress(by: 100) }
          if number.isMultiple(of: 7) { await abort(theirs) }
        }
        race.end()
        try await group.waitForAll()
      }
      #expect(race.lookUps >= 25_000)
      #expect(race.uses > race.lookUps / 2)
      try await theirs.close()
    }
  }

  @Test("no cached row survives a restart of the server", .timeLimit(.minutes(2)))
  func restarted() async throws {
    try await withServer { database, _, server in
      let id = try await makeTeam(database)
      #expect(try await isKept(database, id))
      let before = try await moment(database, id)
      try await server.kill()
      try await server.restart()
      try expectLater(await moment(database, id), than: before)
      #expect(try await isKept(database, id))
    }
  }

  @Test("rows of a stand-by are not cached, until it is promoted", .timeLimit(.minutes(2)))
  func standby() async throws {
    try await withServer { database, _, server in
      let id = try await makeTeam(database)
      let directory = try await database.query { try $0.row("SHOW data_directory", [])?.text(0) }
      let signal = "\(try #require(directory))/standby.signal"
      try await server.kill()
      #expect(FileManager.default.createFile(atPath: signal, contents: nil, attributes: [.posixPermissions: 0o666]))
      try await server.restart()
      var last: Date?
      for _ in 0..<20 {
        let found = try await moment(database, id)
        #expect(found.version == nil)
        #expect(found.value != nil && found.value != last)
        last = found.value
      }
      #expect(try await database.version() == nil)
      #expect(try await database.query { try $0.row("SELECT pg_promote()", [])?.bool(0) } == true)
      #expect(try await isKept(database, id))
      #expect(try await database.version() != nil)
    }
  }

  @Test("switching to another server changes the version, and so does switching back")
  func servers() {
    let servers = PostgresServers()
    let changes = ["a", "a", "b", "a", "a"].map { server in
      servers.willUse(server)
      return servers.changes
    }
    #expect(changes == [1, 1, 2, 3, 3])
  }

  @Test(
    "tokens are equal if snapshot, connection and server are; long snapshots and stand-bys yield none"
  )
  func tokens() throws {
    func token(
      _ snapshot: [UInt8] = [1, 2], backend: Int = 7, recovers: Bool = false, serverChanges: Int = 1
    ) throws -> PostgresStateToken? {
      try PostgresStateToken(
        SQLRow([.blob(snapshot), .integer(backend), .bool(recovers)]), serverChanges: serverChanges)
    }
    let one = try #require(try token())
    #expect(try token() == one)
    #expect(try token([1, 3]) != one)
    #expect(try token(backend: 8) != one)
    #expect(try token(serverChanges: 2) != one)
    #expect(try token(recovers: true) == nil)
    #expect(try token([UInt8](repeating: 0, count: PostgresStateToken.maximumBytes + 1)) == nil)
    #expect(throws: PersistenceError.self) { try PostgresStateToken(nil, serverChanges: 1) }
    #expect(throws: PersistenceError.self) { try PostgresStateToken(SQLRow([.text("1:1:")]), serverChanges: 1) }
  }

  @Test("the cache is bypassed while every other query finds a change, and used again once few do")
  func turnover() {
    var turnover = PostgresTurnover()
    for number in 0..<16 { turnover.record(isUnchanged: number.isMultiple(of: 2)) }
    #expect(turnover.isHigh)
    for _ in 0..<8 { turnover.record(isUnchanged: true) }
    #expect(!turnover.isHigh)
    for _ in 0..<100 { turnover.record(isUnchanged: false) }
    #expect(turnover.isHigh)
    for _ in 0..<9 { turnover.record(isUnchanged: true) }
    #expect(!turnover.isHigh)
  }
}

/// Synchronizes readers and a writer.
private final class Race: Sendable {
  private struct State {
    var acknowledged = 0
    var lookUps = 0
    var readings: Set<Date> = []
    var isOver = false
  }

  private let state = Mutex(State())

  var acknowledged: Int { state.withLock { $0.acknowledged } }
  var lookUps: Int { state.withLock { $0.lookUps } }
  /// Look-ups that were answered with a row that another look-up had read.
  var uses: Int { state.withLock { $0.lookUps - $0.readings.count } }
  var isOver: Bool { state.withLock { $0.isOver } }

  func acknowledge(_ number: Int) { state.withLock { $0.acknowledged = number } }
  func end() { state.withLock { $0.isOver = true } }

  func note(_ reading: Date) {
    state.withLock { state in
      state.lookUps += 1
      state.readings.insert(reading)
    }
  }

  /// Waits until this many more look-ups were answered.
  func progress(by count: Int) async throws {
    let goal = lookUps + count
    let deadline = ContinuousClock.now + .seconds(60)
    while lookUps < goal {
      try #require(ContinuousClock.now < deadline)
      await Task.yield()
    }
  }
}
