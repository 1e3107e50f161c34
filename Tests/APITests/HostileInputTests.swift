import API
import AsyncHTTPClient
import ControlPlane
import Foundation
import Model
import NIOCore
import NIOHTTP1
import Persistence
import TestSupport
import Testing

/// Sends ten thousand hostile requests to all routes of the table: the server must not crash, hang, return 5xx, or
/// reveal internals.
@Suite(.serialized) struct HostileInputTests {
  private static let requests = 10_000
  private static let workers = 16
  private static let seed: UInt64 = 20_260_821

  /// Texts that would reveal internals of the server.
  private static let internals = [
    "sqlite", "SQLSTATE", "SELECT ", "INSERT ", "UPDATE ", "constraint:", "corrupt row", "psql", ".swift", "Sources/",
    "NIO", "Fatal",
    "argon2",
    "DecodingError", "Swift.", "/var/", "errno",
  ]

  private struct Report {
    var answered = 0
    var problems: [String] = []

    mutating func add(_ other: Report) {
      answered += other.answered
      problems += other.problems
    }
  }

  @Test(
    "hostile requests to every route get 4xx responses, and the server stays usable",
    arguments: SQLDialect.allCases)
  func everyRoute(dialect: SQLDialect) async throws {
    try await withServer(dialect) { server async throws -> Void in
      let dependencies = try await dependencies(server)
      let routes = server.routes.entries
      var report = Report()
      await withTaskGroup(of: Report.self) { group in
        for worker in 0..<Self.workers {
          group.addTask { await Self.attack(server, routes, dependencies, worker: worker) }
        }
        for await part in group { report.add(part) }
      }
      #expect(
        report.problems.isEmpty,
        "\(report.problems.count), such as \(report.problems.prefix(10).joined(separator: "\n"))")
      // The HTTP client itself refuses to send some of them.
      #expect(report.answered > Self.requests * 9 / 10)
      let person = try await server.signUp("still@b.c")
      #expect(try await server.send(.POST, "/v1/sandboxes", as: person, json: "{}").status == 201)
      #expect(try await server.logInAsAdmin().email == server.admin?.adminEmail)
    }
  }

  /// Credentials of a user whose objects may be changed, and no credentials.
  private func dependencies(_ server: LiveServer) async throws -> HostileRequest.Dependencies {
    let victim = try await server.signUp("victim@b.c")
    let spare =
      try await server.send(.POST, "/v1/teams", as: victim, json: #"{"name":"spare"}"#).json["id"] as? String ?? ""
    let (key, other) = (try await server.makeKey(for: victim), try await server.makeKey(for: victim))
    var ids = [victim.user, spare, other.id, "init", "1"]
    for _ in 0..<3 {
      let response = try await server.send(.POST, "/v1/sandboxes", as: victim, json: "{}")
      ids.append(try #require(response.json["id"] as? String))
    }
    let admin = try await server.logInAsAdmin()
    return HostileRequest.Dependencies(
      ids: ids,
      credentials: [
        [("X-API-Key", key.secret)], [("Authorization", "Bearer \(victim.token)")],
        [("Authorization", "Bearer \(victim.token)")],
        [("Authorization", "Bearer \(admin.token)")], [],
      ])
  }

  private static func attack(
    _ server: LiveServer, _ routes: [RouteTable.Entry], _ dependencies: HostileRequest.Dependencies, worker: Int
  ) async -> Report {
    var generator = SeededGenerator(seed: seed &+ UInt64(worker))
    var report = Report()
    for number in stride(from: worker, to: requests, by: workers) {
      let request = HostileRequest.random(routes[number % routes.count], dependencies, using: &generator)
      do {
        let problem = try await problem(request, server)
        report.answered += 1
        if let problem { report.problems.append("\(number) \(request.method) \(request.path): \(problem)") }
      } catch let error as HTTPClientError where ![.deadlineExceeded, .readTimeout, .connectTimeout].contains(error) {
        // The HTTP client refuses such a header, or the server responded before the body was sent.
      } catch {
        report.problems.append("\(number) \(request.method) \(request.path): \(error)")
      }
    }
    return report
  }

  /// The fault of a response; nil if it has none.
  private static func problem(_ request: HostileRequest, _ server: LiveServer) async throws -> String? {
    var sent = HTTPClientRequest(url: server.base + request.path)
    sent.method = request.method
    for (name, value) in request.headers { sent.headers.add(name: name, value: value) }
    if let body = request.body { sent.body = .bytes(body) }
    let response = try await HTTPClient.shared.execute(sent, timeout: .seconds(30))
    let text = String(buffer: try await response.body.collect(upTo: 1 << 24))
    if response.status.code >= 500 { return "\(response.status.code) \(text.prefix(300))" }
    if let word = internals.first(where: text.contains) { return "says \(word): \(text.prefix(300))" }
    guard response.status.code >= 400, request.method != .HEAD else { return nil }
    return text.hasPrefix(#"{"error":{"code":""#)
      ? nil : "no error in our form: \(response.status.code) \(text.prefix(300))"
  }

  @Test("malformed HTTP and malformed WebSocket frames close their connection and no other")
  func bytes() async throws {
    try await withServer { server async throws -> Void in
      let id = try await server.create()
      var generator = SeededGenerator(seed: Self.seed)
      for _ in 0..<400 {
        let client = try await server.clients.connect(server.port)
        try? await client.send(Self.noise(id, server.key, &generator))
        await client.finish()
        let response = try await within(.seconds(20)) { try await client.readAll() }
        await client.close()
        for line in response.split(separator: "\r\n") where line.hasPrefix("HTTP/1.1 ") {
          #expect(!line.hasPrefix("HTTP/1.1 5"), "\(line)")
        }
      }
      #expect(try await server.send(.GET, "/v1/sandboxes/\(id)").json["status"] as? String == "running")
    }
  }

  private static func noise(_ id: String, _ key: String, _ generator: inout SeededGenerator) -> [UInt8] {
    let junk = (0..<Int.random(in: 1...400, using: &generator)).map { _ in UInt8.random(in: 0...255, using: &generator)
    }
    let heads = [
      "", "GET / HTTP/1.1\r\n", "GET /health HTTP/9.9\r\n\r\n", "GET  /health HTTP/1.1\r\nHost: localhost\r\n\r\n",
      "POST /v1/sandboxes HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
      "POST /v1/sandboxes HTTP/1.1\r\nHost: localhost\r\nX-API-Key: \(key)\r\nTransfer-Encoding: chunked\r\n\r\n"
        + "fffffffffffffffff\r\n",
      "POST /v1/sandboxes HTTP/1.1\r\nHost: localhost\r\nX-API-Key: \(key)\r\nTransfer-Encoding: chunked\r\n"
        + "Content-Length: 3\r\n"
        + "\r\n{}\r\n",
      "POST /v1/sandboxes HTTP/1.1\r\nHost: localhost\r\nX-API-Key: \(key)\r\nContent-Length: -1\r\n\r\n",
      "GET /health HTTP/1.1\r\nHost: localhost\r\n folded: y\r\n\r\n", "GET /health HTTP/1.1\r\nA\u{0}B: c\r\n\r\n",
      "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
      "GET /v1/sandboxes/\(id)/exec/stream HTTP/1.1\r\nHost: localhost\r\nX-API-Key: \(key)\r\nConnection: Upgrade\r\n"
        + "Upgrade: websocket\r\n"
        + "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n",
      "GET /v1/sandboxes/\(id)/pty HTTP/1.1\r\nHost: localhost\r\nX-API-Key: \(key)\r\nConnection: Upgrade\r\n"
        + "Upgrade: websocket\r\n"
        + "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n",
    ]
    return Array(heads[Int.random(in: 0..<heads.count, using: &generator)].utf8) + junk
  }
}

/// - Throws: if `work` takes longer.
private func within<Value: Sendable>(
  _ limit: Duration, _ work: @escaping @Sendable () async throws -> Value
) async throws -> Value {
  try await withThrowingTaskGroup(of: Value.self) { group in
    group.addTask(operation: work)
    group.addTask {
      try await Task.sleep(for: limit)
      throw SimulatedFault()
    }
    defer { group.cancelAll() }
    guard let value = try await group.next() else { throw SimulatedFault() }
    return value
  }
}
