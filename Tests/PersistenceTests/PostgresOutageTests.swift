import Concurrency
import Foundation
import Model
import Persistence
import TestSupport
import Testing

@Suite struct PostgresOutageTests {
  @Test(
    "clients reconnect to a server that was killed and restarted, and no acknowledged change is lost",
    .timeLimit(.minutes(2)))
  func killed() async throws {
    let server = try await PrivatePostgres.start()
    try await withTestDatabase(.postgresql, on: server) { database, _ async throws -> Void in
      let team = try await makeTeam(database)
      let repository = SandboxRepository(database: database)
      let writers = Writers()
      try await withThrowingTaskGroup(of: Void.self) { group in
        for _ in 0..<4 {
          group.addTask {
            while !writers.isOver {
              let record = SandboxRecord(spec: SandboxSpec(teamID: team), createdAt: Date())
              do {
                try await repository.insert(record, audit: audit(team))
                writers.acknowledge(record.id)
              } catch PersistenceError.outcomeUnknown {
                continue
              }
            }
          }
        }
        for _ in 0..<3 {
          try await writers.progress()
          try await server.kill()
          try await server.restart()
          try await writers.progress()
        }
        writers.end()
        try await group.waitForAll()
      }
      let present = Set(try await repository.alive().map(\.id))
      #expect(writers.acknowledged.subtracting(present).isEmpty)
      let rows = try await AuditRepository(database: database).list(team: team, limit: 1_000_000).count
      #expect(rows == present.count)
    }
    await server.stop()
  }

  @Test(
    "while the server is down calls fail as unavailable, and they work again once it is up", .timeLimit(.minutes(2)))
  func away() async throws {
    let server = try await PrivatePostgres.start()
    try await withTestDatabase(.postgresql, on: server) { _, store async throws -> Void in
      let database = try store.connect { $0.patience = .milliseconds(300) }
      let people = PeopleRepository(database: database)
      #expect(try await people.hasUsers() == false)
      try await server.kill()
      for _ in 0..<20 {
        let error = await #expect(throws: PersistenceError.self) { _ = try await people.hasUsers() }
        #expect(MartletError.wrapping(try #require(error)).code == .databaseUnavailable)
      }
      try await server.restart()
      #expect(try await people.hasUsers() == false)
      try await database.close()
    }
    await server.stop()
  }

  @Test("leadership has one holder, ends with its connection, and is acquired again", .timeLimit(.minutes(2)))
  func leadership() async throws {
    let server = try await PrivatePostgres.start()
    try await withTestDatabase(.postgresql, on: server) { database, store async throws -> Void in
      let other = try store.connect()
      let (one, two) = (database.makeLeaderLock(), other.makeLeaderLock())
      let (first, second) = (database.worker, other.worker)
      #expect(await one.tryAcquire() == .leader(workers: [first]))
      #expect(await two.tryAcquire() == .follower)
      #expect(await one.tryAcquire() == .leader(workers: [first, second]))
      await one.release()
      #expect(try await eventually { await two.tryAcquire() == .leader(workers: [second]) })
      #expect(await one.tryAcquire() == .follower)
      try await server.kill()
      #expect(await two.tryAcquire() == .follower)
      #expect(await one.tryAcquire() == .follower)
      try await server.restart()
      #expect(try await eventually { await two.tryAcquire() != .follower })
      #expect(await one.tryAcquire() == .follower)
      #expect(await two.tryAcquire() == .leader(workers: [first, second]))
      try await other.close()
      #expect(try await eventually { await one.tryAcquire() == .leader(workers: [first]) })
    }
    await server.stop()
  }

  private func eventually(_ condition: () async -> Bool) async throws -> Bool {
    for _ in 0..<1_000 {
      if await condition() { return true }
      try await Task.sleep(for: .milliseconds(10))
    }
    return false
  }
}

/// The changes that writers know to be committed.
private final class Writers: Sendable {
  private let state = Mutex((acknowledged: Set<SandboxID>(), isOver: false))

  var acknowledged: Set<SandboxID> { state.withLock { $0.acknowledged } }
  var isOver: Bool { state.withLock { $0.isOver } }

  func acknowledge(_ id: SandboxID) { state.withLock { _ = $0.acknowledged.insert(id) } }
  func end() { state.withLock { $0.isOver = true } }

  /// Waits until twenty more changes were acknowledged.
  func progress() async throws {
    let goal = acknowledged.count + 20
    while acknowledged.count < goal { try await Task.sleep(for: .milliseconds(5)) }
  }
}
