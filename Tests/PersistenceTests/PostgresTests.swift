import Concurrency
import Dispatch
import Foundation
import Logging
import Model
import TestSupport
import Testing

@testable import Persistence

@Suite struct PostgresTests {
  @Test("a transaction whose connection broke before its commit is retried")
  func lostBeforeCommit() async throws {
    try await withTestDatabase(.postgresql) { database, _ async throws -> Void in
      let runs = Mutex(0)
      try await database.write { connection in
        try connection.execute(Self.insertTeam, Self.team("once"))
        let run = runs.withLock {
          $0 += 1; return $0
        }
        if run == 1 { _ = try connection.rows("SELECT pg_terminate_backend(pg_backend_pid())") }
      }
      #expect(runs.withLock { $0 } == 2)
      #expect(try await Self.count(database) == 1)
    }
  }

  @Test("a commit without a response is reported as outcome unknown, and not retried")
  func lostAtCommit() async throws {
    try await withTestDatabase(.postgresql) { database, _ async throws -> Void in
      try await database.migrate { connection in
        try connection.executeScript(
          """
          CREATE FUNCTION end_me() RETURNS trigger LANGUAGE plpgsql AS $$
          BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END $$;
          CREATE CONSTRAINT TRIGGER end_me AFTER INSERT ON teams DEFERRABLE INITIALLY DEFERRED
          FOR EACH ROW EXECUTE FUNCTION end_me();
          """)
      }
      let runs = Mutex(0)
      let error = await #expect(throws: PersistenceError.self) {
        try await database.write { connection in
          runs.withLock { $0 += 1 }
          try connection.execute(Self.insertTeam, Self.team("?"))
        }
      }
      guard case .outcomeUnknown = error else { throw PersistenceError.failed("\(String(describing: error))") }
      #expect(runs.withLock { $0 } == 1)
      #expect(MartletError.wrapping(try #require(error)).code == .outcomeUnknown)
      #expect(try await Self.count(database) == 0)
    }
  }

  @Test("a transaction whose body ignores a failed statement is not reported as committed")
  func swallowedFailure() async throws {
    try await withTestDatabase(.postgresql) { database, _ async throws -> Void in
      await #expect(throws: PersistenceError.self) {
        try await database.write { connection in
          try connection.execute(Self.insertTeam, Self.team("lost"))
          _ = try? connection.rows("SELECT 1 FROM nowhere")
        }
      }
      #expect(try await Self.count(database) == 0)
    }
  }

  @Test("a statement that takes too long is cancelled, and its connection stays usable")
  func statementTimeout() async throws {
    try await withTestDatabase(.postgresql) { _, store async throws -> Void in
      let database = try store.connect {
        $0.statementTimeout = .milliseconds(100)
        $0.maximumConnections = 1
      }
      let error = await #expect(throws: PersistenceError.self) {
        try await database.query { try $0.rows("SELECT pg_sleep(60)").count }
      }
      #expect(MartletError.wrapping(try #require(error)).code == .databaseUnavailable)
      #expect(try await Self.count(database) == 0)
      try await database.close()
    }
  }

  @Test("an unreachable server is reported as unavailable, without details of its address")
  func away() async throws {
    var configuration = try PostgresConfiguration(url: "postgres://someone:secret@/there?host=/nonexistent")
    configuration.patience = .milliseconds(300)
    let database = PostgresDatabase(configuration, logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
    let error = await #expect(throws: PersistenceError.self) { _ = try await database.serverVersion() }
    let failure = MartletError.wrapping(try #require(error))
    #expect(failure.code == .databaseUnavailable)
    #expect(!failure.message.contains("nonexistent"))
    #expect(!failure.description.contains("secret"))
    try await database.close()
  }

  @Test("failures never contain values, not even in the log")
  func noLeak() async throws {
    try await withTestDatabase(.postgresql) { database, _ async throws -> Void in
      let team = try await makeTeam(database)
      let secret = "s3cr3t-value"
      let statements: [(String, [SQLValue])] = [
        (Self.insertTeam, [.text(secret), .text("x"), .timestamp(Date())]),
        (Self.insertTeam, [.uuid(team.uuid), .text(secret), .timestamp(Date())]),
        (
          "INSERT INTO teams (id, name, created_at) VALUES (?, ?, ?)",
          [.uuid(UUID()), .text(secret + "\0"), .timestamp(Date())]
        ),
        ("SELECT id FROM sandboxes WHERE metadata = ?", [.text("{\(secret)")]),
      ]
      for (sql, parameters) in statements {
        let error = await #expect(throws: PersistenceError.self) {
          _ = try await database.write { try $0.rows(sql, parameters) }
        }
        #expect(error?.description.contains(secret) == false)
        #expect(MartletError.wrapping(try #require(error)).message.contains("INSERT") == false)
      }
    }
  }

  @Test("a connection copes with more statements than it caches, and with schema changes")
  func statements() async throws {
    try await withTestDatabase(.postgresql) { _, store async throws -> Void in
      let database = try store.connect { $0.maximumConnections = 1 }
      for number in 0..<(PostgresStatements.maximumCount + 20) {
        #expect(
          try await database.query { try $0.row("SELECT \(number) + ?", [.integer(1)])?.integer(0) } == number + 1)
      }
      let everything: @Sendable (any SQLConnection) throws -> Int = { try $0.rows("SELECT * FROM teams").count }
      #expect(try await database.query(everything) == 0)
      let other = try store.connect()
      try await other.migrate { try $0.executeScript("ALTER TABLE teams ADD COLUMN colour TEXT") }
      #expect(try await database.query(everything) == 0)
      try await other.migrate { try $0.executeScript("ALTER TABLE teams ADD COLUMN size BIGINT") }
      #expect(try await database.write(everything) == 0)
      try await database.close()
      try await other.close()
    }
  }

  @Test("calls beyond the connections wait, and calls beyond the queue's bound are refused")
  func bounds() async throws {
    try await withTestDatabase(.postgresql) { _, store async throws -> Void in
      let database = try store.connect {
        $0.maximumConnections = 2
        $0.maximumWaiting = 8
      }
      let outcomes = await withTaskGroup(of: Bool.self) { group in
        for _ in 0..<40 {
          group.addTask { (try? await database.query { try $0.rows("SELECT pg_sleep(0.05)").count }) == 1 }
        }
        return await group.reduce(into: (done: 0, refused: 0)) { counts, isDone in
          if isDone { counts.done += 1 } else { counts.refused += 1 }
        }
      }
      #expect(outcomes.done >= 8)
      #expect(outcomes.done + outcomes.refused == 40)
      #expect(try await Self.count(database) == 0)
      try await database.close()
    }
  }

  @Test("the session asks the server to detect vanished clients")
  func keepAlives() async throws {
    try await withTestDatabase(.postgresql) { database, _ async throws -> Void in
      // The settings are for TCP and read as zero on the tests' Unix socket; pg_settings still shows that the session
      // has set them.
      let sources = try await database.query { connection in
        try connection.rows(
          "SELECT source FROM pg_settings WHERE name LIKE 'tcp_keepalives%' OR name = 'tcp_user_timeout'"
        ).map {
          try $0.text(0)
        }
      }
      #expect(sources == ["session", "session", "session", "session"])
    }
  }

  @Test("a migration waits longer for another program's migration than statements wait for locks")
  func waitsForMigration() async throws {
    try await withTestDatabase(.postgresql) { database, store async throws -> Void in
      let other = try store.connect { $0.statementTimeout = .milliseconds(100) }
      let began = Mutex(false)
      let ends = DispatchSemaphore(value: 0)
      async let first = database.migrate { connection in
        _ = try connection.row("SELECT 1", [])
        began.withLock { $0 = true }
        return ends.wait(timeout: .now() + 30) == .success
      }
      while !began.withLock({ $0 }) { try await Task.sleep(for: .milliseconds(2)) }
      async let second = other.migrate { try $0.row("SELECT 2", [])?.integer(0) }
      let waiting = """
        SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'advisory' AND query LIKE 'SELECT pg_advisory_lock(%' \
        AND query_start < clock_timestamp() - interval '500 milliseconds'
        """
      let deadline = ContinuousClock.now + .seconds(20)
      while try await database.query({ try $0.row(waiting, [])?.integer(0) }) != 1, ContinuousClock.now < deadline {
        try await Task.sleep(for: .milliseconds(20))
      }
      ends.signal()
      #expect(try await first)
      #expect(try await second == 2)
      try await other.close()
    }
  }

  @Test("result types that PostgreSQL derives from our types are decoded")
  func types() async throws {
    try await withTestDatabase(.postgresql) { database, _ async throws -> Void in
      let row = try await database.query { connection in
        try connection.row(
          """
          SELECT sum(x), 0::numeric, -12345678::numeric, 7::smallint, 8::int, true, NULL::text, 'a'::varchar,
            '{"b": 1}'::json, '{"b":1}'::jsonb, 20000::numeric FROM (VALUES (1::bigint), (9007199254740992)) AS v(x)
          """, [])
      }
      let values = try #require(row)
      #expect(try values.integer(0) == 9_007_199_254_740_993)
      #expect(try (1...4).map { try values.integer($0) } == [0, -12_345_678, 7, 8])
      #expect(try values.bool(5))
      #expect(try values.optionalText(6) == nil)
      #expect(try (7...9).map { try values.text($0) } == ["a", "{\"b\": 1}", "{\"b\": 1}"])
      #expect(try values.integer(10) == 20_000)
      for strange in ["point(1, 2)", "'infinity'::timestamptz", "9223372036854775808", "0.5", "'NaN'::numeric"] {
        await #expect(throws: PersistenceError.self) {
          try await database.query { try $0.rows("SELECT \(strange)").count }
        }
      }
    }
  }

  @Test(
    "an invalid PostgreSQL URL is refused without repeating it",
    arguments: ["mysql://u:pw@h/d", "postgres://u:pw@h:x y/d?nope=1", "pw"])
  func url(_ text: String) {
    let error = #expect(throws: PersistenceError.self) { try PostgresConfiguration(url: text) }
    #expect(error?.description.contains("pw") == false)
  }

  private static let insertTeam = "INSERT INTO teams (id, name, created_at) VALUES (?, ?, ?)"

  private static func team(_ name: String) -> [SQLValue] { [.uuid(UUID()), .text(name), .timestamp(Date())] }

  private static func count(_ database: any Database) async throws -> Int {
    try await database.query { try $0.row("SELECT count(*) FROM teams", [])?.integer(0) ?? -1 }
  }
}

@Suite struct PostgresRetryPolicyTests {
  private let now = ContinuousClock.now

  private func decisions(
    _ kinds: [PostgresFailure.Kind], _ call: PostgresCall = .write, isCommitting: Bool = false,
    patience: Duration = .seconds(1)
  ) -> [PostgresRetryPolicy.Decision] {
    var policy = PostgresRetryPolicy(call, reconnectDeadline: now + patience)
    return kinds.map { policy.decide(PostgresFailure(kind: $0, text: ""), isCommitting: isCommitting, now: now) }
  }

  @Test("a broken connection is replaced at once, then with pauses, until the deadline")
  func reconnect() {
    let found = decisions([.connectionLost, .notConnected, .notConnected])
    #expect(found == [.retry(within: .zero), .retry(within: .milliseconds(200)), .retry(within: .milliseconds(200))])
    #expect(decisions([.connectionLost, .notConnected], patience: .zero) == [.report, .report])
  }

  @Test("a commit in progress is never retried", arguments: [PostgresCall.write, .migrate])
  func committing(call: PostgresCall) {
    #expect(decisions([.connectionLost], call, isCommitting: true) == [.reportUnknownOutcome])
  }

  @Test("conflicts are retried a bounded number of times")
  func conflicts() {
    let found = decisions(Array(repeating: .conflict, count: PostgresRetryPolicy.maximumConflicts + 1))
    #expect(found.dropLast().allSatisfy { $0 != .report })
    #expect(found.last == .report)
  }

  @Test(
    "failures that would recur are reported",
    arguments: [PostgresFailure.Kind.duplicate, .constraint, .unavailable, .other])
  func final(kind: PostgresFailure.Kind) {
    #expect(decisions([kind]) == [.report])
  }

  @Test("only writes reconnect when the server is a stand-by")
  func standBy() {
    #expect(decisions([.readOnly], .write) == [.retry(within: .zero)])
    #expect(decisions([.readOnly], .query) == [.report])
    #expect(decisions([.staleStatement, .staleStatement]) == [.retry(within: .zero), .report])
  }
}
