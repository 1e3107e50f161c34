import Foundation
import Glibc
import LinuxSystem
import NIOCore
import SystemPackage
import TestSupport
import Testing

/// Tests two servers, each with its own host, on one PostgreSQL database, with real processes and microVMs.
@Suite(.serialized) struct SharedServersTests {
  private static let rounds = 10

  /// Two servers, their shared database, and the census of the host before their start.
  private struct Pair {
    let postgres: PrivatePostgres
    let first: MartletServer
    let second: MartletServer
    let censuses: [Census]

    var servers: [MartletServer] { [first, second] }

    /// Runs `body` and removes servers and sandboxes afterwards in every case.
    /// - Parameter executable: program of the first server.
    static func with(executable: String = MartletServer.binary, _ body: (Pair) async throws -> Void) async throws {
      let pair = try await start(executable)
      do {
        try await body(pair)
      } catch {
        _ = try? await pair.first.cli("kill", "--all")
        for server in pair.servers {
          await server.killHard()
          for pid in server.machines + server.pagers { kill(pid, SIGKILL) }
        }
        await pair.postgres.stop()
        throw error
      }
      try await pair.finish()
    }

    private static func start(_ executable: String) async throws -> Pair {
      let postgres = try await PrivatePostgres.start()
      let environment = [
        "DATABASE_URL": postgres.url(database: try await postgres.makeDatabase()),
        "MARTLET_JWT_SECRET": String(repeating: "secret of all control planes ", count: 2),
      ]
      let first = try await MartletServer.start(executable: executable, environment: environment)
      let second = try await MartletServer.start(environment: environment, accountOf: first)
      try await eventually("both hosts are registered") { first.hasRegistered && second.hasRegistered }
      // The first sandbox of a template on a host creates the template's snapshot.
      let warmers = try await onBothHosts([first, second])
      for id in warmers { try await first.cli("kill", id).expectSuccess() }
      let pair = Pair(
        postgres: postgres, first: first, second: second,
        censuses: [try await Census.take(first), try await Census.take(second)])
      return pair
    }

    /// Creates sandboxes, at least one on the host of each server.
    static func onBothHosts(_ servers: [MartletServer]) async throws -> [String] {
      var ids: [String] = []
      while servers.contains(where: { $0.machines.isEmpty }) {
        guard ids.count < 8 else { throw TestFailure("all sandboxes are on one host") }
        ids.append(try await servers[ids.count % 2].createSandbox("--memory", "256"))
      }
      return ids
    }

    /// Destroys all sandboxes and checks that their resources were released.
    private func finish() async throws {
      try await first.cli("kill", "--all").expectSuccess()
      for (server, census) in zip(servers, censuses) { try await census.awaitSame(server, descriptorSlack: 64) }
      for server in servers {
        await server.terminate()
        try server.removeDirectory()
      }
      await postgres.stop()
    }

    /// The sandbox's final state, which both servers must report.
    func settled(_ id: String) async throws -> String {
      let statuses = (try await first.settled(id), try await second.settled(id))
      guard statuses.0 == statuses.1 else { throw TestFailure("one says \(statuses.0), the other \(statuses.1)") }
      return statuses.0
    }

    /// Sends the same request to both servers, `count` times each, concurrently; returns the HTTP statuses.
    func race(
      _ method: MartletServer.Method, _ path: String, body: String? = nil, headers: [String: String] = [:],
      count: Int = 3
    )
      async throws -> [MartletServer.Response]
    {
      try await withThrowingTaskGroup(of: MartletServer.Response.self) { group in
        for _ in 0..<count {
          for server in servers {
            group.addTask { try await server.request(method, path, body: body, headers: headers) }
          }
        }
        return try await group.reduce(into: []) { $0.append($1) }
      }
    }
  }

  @Test("each server runs commands, copies files, pauses and resumes in sandboxes of the other's host")
  func foreign() async throws {
    try await Pair.with { pair async throws -> Void in
      let ids = try await Pair.onBothHosts(pair.servers)
      let bytes = String(decoding: (0..<200_000).map { UInt8(32 + $0 % 90) }, as: UTF8.self)
      for id in ids {
        for server in pair.servers {
          #expect(try await server.shell(id, "echo $((6*7))") == "42\n")
          try await server.cli(["cp", "-", "\(id):/var/tmp/file"], input: bytes).expectSuccess()
          let other = server === pair.first ? pair.second : pair.first
          let copy = try await other.cli("cp", "\(id):/var/tmp/file", "-")
          #expect(copy.isSuccess && copy.outputText == bytes)
          try await server.pause(id)
          #expect(try await pair.settled(id) == "paused")
          try await other.resume(id)
          #expect(try await server.shell(id, "wc -c < /var/tmp/file").contains("200000"))
          let failed = try await other.cli("exec", id, "--", "sh", "-c", "cat; exit 7", input: "through")
          #expect(failed.outputText == "through" && failed.status == .exited(7))
        }
      }
    }
  }

  @Test(
    "of concurrent creates with one key, pauses, resumes and destroys on both one succeeds, and nothing leaks"
  )
  func races() async throws {
    try await Pair.with { pair async throws -> Void in
      for round in 0..<Self.rounds {
        let responses = try await pair.race(
          .POST, "/v1/sandboxes", body: #"{"template":"minimal","memory_mb":256}"#,
          headers: ["Idempotency-Key": "round-\(round)"])
        let ids = Set(responses.compactMap { $0.json["id"] as? String })
        #expect(ids.count == 1 && responses.allSatisfy { (200...201).contains($0.status) }, "round \(round)")
        let id = try #require(ids.first)
        #expect(try await machines(pair) == 1, "round \(round)")
        for (verb, end) in [("pause", "paused"), ("resume", "running")] {
          let responses = try await pair.race(.POST, "/v1/sandboxes/\(id)/\(verb)")
          #expect(responses.count { $0.status == 200 } == 1, "\(verb) in round \(round): \(responses.map(\.status))")
          #expect(responses.allSatisfy { $0.status == 200 || $0.errorCode == "invalid_state" })
          #expect(try await pair.settled(id) == end)
          #expect(try await machines(pair) == (end == "running" ? 1 : 0))
        }
        // Pause and resume concurrently through both servers: both must report the same state, and it must match the
        // host.
        async let pauses = pair.race(.POST, "/v1/sandboxes/\(id)/pause", count: 2)
        async let resumes = pair.race(.POST, "/v1/sandboxes/\(id)/resume", count: 2)
        let both = try await pauses + resumes
        #expect(both.allSatisfy { $0.status == 200 || $0.errorCode == "invalid_state" })
        let end = try await pair.settled(id)
        #expect(try await machines(pair) == (end == "running" ? 1 : 0), "\(end) in round \(round)")
        let destroyed = try await pair.race(.DELETE, "/v1/sandboxes/\(id)")
        #expect(destroyed.allSatisfy { (200...204).contains($0.status) }, "\(destroyed.map(\.status))")
        #expect(try await pair.settled(id) == "stopped")
        #expect(try await machines(pair) == 0)
      }
    }
  }

  @Test(
    "another server takes over when the leader is killed; sandboxes of the killed one are missing until it restarts"
  )
  func leaders() async throws {
    try await Pair.with { pair async throws -> Void in
      try await eventually("one leads") { pair.servers.count { $0.leads } == 1 }
      let idle = try await pair.first.createSandbox("--memory", "256", "--timeout", "3")
      try await eventually("the idle sandbox is paused") { try await pair.settled(idle) == "paused" }
      let counts = [try await pair.first.autoPauses(), try await pair.second.autoPauses()]
      #expect(counts.reduce(0, +) == 1 && pair.servers.count { $0.leads } == 1)
      try await pair.first.cli("kill", idle).expectSuccess()

      let ids = try await Pair.onBothHosts(pair.servers)
      let leader = pair.first.leads ? pair.first : pair.second
      let other = pair.first.leads ? pair.second : pair.first
      let counting = "i=0; while true; do i=$((i+1)); echo $$ $i > /tmp/n; mv /tmp/n /tmp/count; sleep 0.1; done"
      for id in ids { try await other.cli("exec", "--detach", id, "--", "sh", "-c", counting).expectSuccess() }
      try await eventually("all count") {
        for id in ids where try await !other.cli("exec", id, "--", "cat", "/tmp/count").isSuccess { return false }
        return true
      }
      let machines = leader.machines
      await leader.killHard()
      try await eventually("another one leads") { other.leads }
      let responses = try await ids.asyncMap { try await other.cli("exec", $0, "--", "cat", "/tmp/count") }
      let (reachable, lost) = (
        zip(ids, responses).filter { $0.1.isSuccess }.map(\.0), zip(ids, responses).filter { !$0.1.isSuccess }.map(\.0)
      )
      #expect(!reachable.isEmpty && !lost.isEmpty)
      // A create does not wait for the killed server.
      let meanwhile = try await other.createSandbox("--memory", "256")
      try await eventually("what the dead one ran is missing", within: .seconds(150)) {
        for id in lost where try await other.status(id) != "missing" { return false }
        return true
      }
      for id in reachable + [meanwhile] { #expect(try await other.status(id) == "running") }

      try await leader.launch()
      try await eventually("it is taken up again, the same machines") {
        for id in lost where try await other.status(id) != "running" { return false }
        return leader.machines == machines
      }
      for id in lost {
        let before = try await other.shell(id, "cat /tmp/count").split(separator: " ")
        let after = try await other.shell(
          id, "a=$(cat /tmp/count); while [ \"$(cat /tmp/count)\" = \"$a\" ]; do sleep 0.05; done; cat /tmp/count"
        )
        .split(separator: " ")
        #expect(before.first == after.first)
      }
      try await eventually("one leads") { pair.servers.count { $0.leads } == 1 }
    }
  }

  @Test(
    "ten seconds after a server that crashed during a pause or resume restarts, the rows match the hosts"
  )
  func crashes() async throws {
    try await Pair.with(executable: CrashSteps.executable) { pair async throws -> Void in
      let (first, second) = (pair.first, pair.second)
      let ids = try await Pair.onBothHosts(pair.servers)
      let id = try #require(try await sandbox(of: first, among: ids))
      for other in ids where other != id { try await first.cli("kill", other).expectSuccess() }
      let stage = CrashStage(server: first, id: id, empty: pair.censuses[0], running: try await Census.take(first))
      for isAlone in [false, true] {
        if isAlone { await second.terminate() }
        for point in ["row-pausing-after", "row-paused-before", "row-resuming-after", "row-running-before"] {
          let verb = point.contains("paus") ? "pause" : "resume"
          if verb == "resume", try await first.status(id) == "running" { try await first.pause(id) }
          try await stage.die(at: point) {
            _ = try await $0.request(.POST, "/v1/sandboxes/\(id)/\(verb)", deadline: .seconds(60))
          }
          try await first.launch()
          try await eventually("\(point), alone: \(isAlone): the row tells the truth", within: .seconds(10)) {
            switch try await first.status(id) {
            case "running": first.machines.count == 1
            case "paused": first.machines.isEmpty
            default: false
            }
          }
          if try await first.status(id) == "paused" { try await first.resume(id) }
          #expect(try await first.shell(id, "echo here") == "here\n", "\(point)")
        }
      }
      try await second.launch()
    }
  }

  /// A sandbox on the host of `server`.
  private func sandbox(of server: MartletServer, among ids: [String]) async throws -> String? {
    for id in ids {
      let count = server.machines.count
      try await server.pause(id)
      let isThere = server.machines.count < count
      try await server.resume(id)
      if isThere { return id }
    }
    return nil
  }

  /// MicroVMs of both hosts.
  private func machines(_ pair: Pair) async throws -> Int {
    pair.servers.reduce(0) { $0 + $1.machines.count }
  }
}

extension MartletServer {
  /// Whether the server is the leader.
  fileprivate var leads: Bool {
    !hasEnded
      && lifeLog.split(separator: "\n").last { $0.contains("leadership ") }?.contains("leadership acquired") == true
  }

  /// Whether the server's host is registered.
  fileprivate var hasRegistered: Bool { lifeLog.contains("host registered") }

  /// The server's log since its last start.
  private var lifeLog: Substring {
    let text = (try? SmallFile.readText(logPath.string)) ?? ""
    return text.range(of: "host agent", options: .backwards).map { text[$0.upperBound...] } ?? ""
  }

  /// How often this server recorded an auto-pause.
  fileprivate func autoPauses() async throws -> Int {
    let text = try await request(.GET, "/metrics").text
    let line = text.split(separator: "\n").first {
      $0.hasPrefix("martlet_operations_total{operation=\"auto_pause\",outcome=\"ok\"}")
    }
    return line.flatMap { $0.split(separator: " ").last }.flatMap { Int($0) } ?? 0
  }
}

extension Sequence {
  fileprivate func asyncMap<Value>(_ transform: (Element) async throws -> Value) async rethrows -> [Value] {
    var values: [Value] = []
    for element in self { values.append(try await transform(element)) }
    return values
  }
}
