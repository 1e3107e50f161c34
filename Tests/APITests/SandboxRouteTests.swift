import API
import AsyncHTTPClient
import Foundation
import HostAPI
import Model
import NIOCore
import NIOHTTP1
import Persistence
import TestSupport
import Testing

@Suite(.serialized) struct SandboxRouteTests {
  @Test("health needs no key", arguments: SQLDialect.allCases)
  func health(dialect: SQLDialect) async throws {
    try await withServer(dialect) { server async throws -> Void in
      let response = try await server.send(.GET, "/health", isAuthenticated: false)
      #expect(response.status == 200)
      #expect(response.json["status"] as? String == "ok")
      #expect(response.headers.first(name: "X-Request-Id") != nil)
    }
  }

  @Test(
    "a sandbox is created, returned, listed and destroyed, and then has the state stopped",
    arguments: SQLDialect.allCases)
  func lifecycle(dialect: SQLDialect) async throws {
    try await withServer(dialect) { server async throws -> Void in
      let created = try await server.send(
        .POST, "/v1/sandboxes",
        json:
          #"{"template":"base","vcpus":2,"memory_mb":1024,"disk_size_mb":2048,"timeout_sec":60,"#
          + #""metadata":{"user":"x"},"envs":{"S":"secret"},"network":{"egress":false}}"#
      )
      #expect(created.status == 201)
      let id = try #require(created.json["id"] as? String)
      #expect(id.hasPrefix("sb-"))
      #expect(created.json["status"] as? String == "running")
      #expect(created.json["memory_mb"] as? Int == 1024)
      #expect((created.json["isolation"] as? [String: Any])?["vmm"] as? String == "simulated")
      #expect(!created.text.contains("secret"))
      #expect(try await server.send(.GET, "/v1/sandboxes/\(id)").json["id"] as? String == id)
      let listed = try await server.send(.GET, "/v1/sandboxes?status=running&metadata=user%3Dx")
      #expect(listed.list.compactMap { $0["id"] as? String } == [id])
      #expect(try await server.send(.GET, "/v1/sandboxes?metadata=user%3Dy").list.isEmpty)
      #expect(try await server.send(.DELETE, "/v1/sandboxes/\(id)").status == 204)
      #expect(try await server.send(.DELETE, "/v1/sandboxes/\(id)").status == 204)
      #expect(try await server.send(.GET, "/v1/sandboxes/\(id)").json["status"] as? String == "stopped")
      #expect(try await server.send(.GET, "/v1/sandboxes").list.isEmpty)
    }
  }

  @Test(
    "a cached list shows every change at once, and only the team's own sandboxes",
    arguments: SQLDialect.allCases)
  func repeatedList(dialect: SQLDialect) async throws {
    try await withServer(dialect) { server async throws -> Void in
      let otherUser = try await server.signUp("other@b.c")
      var ids: [String] = []
      for _ in 0..<3 {
        ids.append(try await server.create())
        for _ in 0..<2 {
          let listed = try await server.send(.GET, "/v1/sandboxes?limit=2")
          #expect(listed.list.compactMap { $0["id"] as? String } == ids.reversed().prefix(2).map { $0 })
          #expect((listed.headers.first(name: "X-Next-Cursor") != nil) == (ids.count > 2))
          #expect(try await server.send(.GET, "/v1/sandboxes?limit=2", as: otherUser).list.isEmpty)
          #expect(try await server.send(.GET, "/v1/sandboxes?limit=0").status == 400)
        }
      }
      while let id = ids.popLast() {
        #expect(try await server.send(.DELETE, "/v1/sandboxes/\(id)").status == 204)
        #expect(try await server.send(.GET, "/v1/sandboxes?limit=2").list.count == min(2, ids.count))
      }
    }
  }

  @Test("two servers on one database show each other's changes at once")
  func twoServers() async throws {
    try await withTestDatabase(.postgresql) { database, store async throws -> Void in
      let second = try store.connect()
      try await withServer(on: database) { one in
        try await withServer(on: second) { other in
          for _ in 0..<30 {
            let id = try await one.create()
            for _ in 0..<2 {
              #expect(
                try await other.send(.GET, "/v1/sandboxes", key: one.key).list.compactMap { $0["id"] as? String } == [
                  id
                ])
              let shown = try await other.send(.GET, "/v1/sandboxes/\(id)", key: one.key)
              #expect(shown.json["status"] as? String == "running")
            }
            #expect(try await one.send(.DELETE, "/v1/sandboxes/\(id)").status == 204)
            let gone = try await other.send(.GET, "/v1/sandboxes/\(id)", key: one.key)
            #expect(gone.json["status"] as? String == "stopped")
            #expect(try await other.send(.GET, "/v1/sandboxes", key: one.key).list.isEmpty)
          }
        }
      }
      try await second.close()
    }
  }

  @Test("the list has pages that a cursor connects", arguments: SQLDialect.allCases)
  func paging(dialect: SQLDialect) async throws {
    try await withServer(dialect) { server async throws -> Void in
      for _ in 0..<5 { _ = try await server.create() }
      var seen: [String] = []
      var path = "/v1/sandboxes?limit=2"
      while true {
        let page = try await server.send(.GET, path)
        seen += page.list.compactMap { $0["id"] as? String }
        guard let cursor = page.headers.first(name: "X-Next-Cursor") else { break }
        path = "/v1/sandboxes?limit=2&cursor=\(cursor)"
      }
      #expect(seen.count == 5)
      #expect(Set(seen).count == 5)
    }
  }

  @Test(
    "invalid bodies are 400 with a message that names the field",
    arguments: [
      (#"{"vcpus":0}"#, "vcpus"), (#"{"vcpus":10000}"#, "vcpus"), (#"{"memory_mb":-5}"#, "memory_mb"),
      (#"{"vcpus":"2"}"#, "vcpus"),
      (#"{"vcpus":1.5}"#, "vcpus"), (#"{"vcpus":99999999999999999999}"#, "vcpus"),
      (#"{"disk_size_mb":1}"#, "disk_size_mb"),
      (#"{"timeout_sec":-1}"#, "timeout_sec"), (#"{"template":"../etc"}"#, "template"),
      (#"{"template":5}"#, "template"),
      (#"{"template":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}"#, "template"),
      (#"{"template":"base\n"}"#, "template"), (#"{"metadata":{"a":1}}"#, "metadata"),
      (#"{"envs":{"A=B":"c"}}"#, "envs"),
      (#"{"envs":{"":"c"}}"#, "envs"), (#"{"network":{"allow":["10.0.0.1/8"]}}"#, "network"),
      (#"{"network":{"egres":true}}"#, "network.egress"),
      (#"{"memory_mib":512}"#, "memory_mb"), (#"[]"#, "object"), (#"{"#, "JSON"), ("not json", "JSON"),
    ])
  func badBodies(body: String, word: String) async throws {
    try await withServer { server async throws -> Void in
      let response = try await server.send(.POST, "/v1/sandboxes", json: body)
      #expect(response.status == 400)
      #expect(response.errorCode == "invalid_request")
      #expect(response.errorMessage?.contains(word) == true)
      #expect(await server.host.sandboxes.isEmpty)
    }
  }

  @Test("an unknown template is 404", arguments: SQLDialect.allCases)
  func unknownTemplate(dialect: SQLDialect) async throws {
    try await withServer(dialect) { server async throws -> Void in
      let response = try await server.send(.POST, "/v1/sandboxes", json: #"{"template":"nope"}"#)
      #expect(response.status == 404)
      #expect(response.errorCode == "not_found")
    }
  }

  @Test(
    "malformed ids are 400, unknown ones 404", arguments: ["", "/exec", "/processes", "/files/read", "/metrics"],
    SQLDialect.allCases)
  func ids(suffix: String, dialect: SQLDialect) async throws {
    try await withServer(dialect) { server async throws -> Void in
      let isPost = suffix == "/exec" || suffix == "/files/read"
      let body = suffix == "/exec" ? #"{"cmd":"x"}"# : #"{"path":"/x"}"#
      for bad in ["x", "sb-1", "usr-\(UUID().uuidString.lowercased())", "sb-\(UUID().uuidString)", "..%2F..", "sb-%00"]
      {
        let response = try await server.send(
          isPost ? .POST : .GET, "/v1/sandboxes/\(bad)\(suffix)", json: isPost ? body : nil)
        #expect(response.status == 400, "\(bad)")
        #expect(response.errorCode == "invalid_request")
      }
      let unknown = try await server.send(
        isPost ? .POST : .GET, "/v1/sandboxes/\(SandboxID().wire)\(suffix)", json: isPost ? body : nil)
      #expect(unknown.status == 404)
    }
  }

  @Test(
    "invalid queries are 400",
    arguments: [
      "limit=0", "limit=101", "limit=x", "limit=-1", "status=walking", "status=", "cursor=x", "cursor=1_2",
      "metadata=x", "metadata=%3Dy",
      "metadata=a%3D%2500", "metadata=a%00%3Db", "cursor=-99999999999999999999_x",
    ], SQLDialect.allCases)
  func badQueries(query: String, dialect: SQLDialect) async throws {
    try await withServer(dialect) { server async throws -> Void in
      #expect(try await server.send(.GET, "/v1/sandboxes?\(query)").status == 400)
    }
  }

  @Test(
    "a wrong or missing key is 401 on every route, before any other check", arguments: SQLDialect.allCases)
  func unauthorized(dialect: SQLDialect) async throws {
    try await withServer(dialect) { server async throws -> Void in
      let entries = server.routes.entries.filter { $0.path.hasPrefix("/v1/") && $0.access != .open }
      #expect(entries.count > 50)
      for entry in entries {
        let path = entry.path.replacing(":id", with: "nonsense").replacing(":selector", with: "1").replacing(
          ":name", with: "x"
        )
        .replacing(":uid", with: "y")
        let method = entry.method == "POST" ? "{" : nil
        for key in [nil, "mrt_0000000000000000000000000000000000000000", "nonsense"] {
          let response = try await server.send(
            .init(rawValue: entry.method), path, json: method, key: key, isAuthenticated: key != nil)
          #expect(response.status == 401, "\(entry)")
          #expect(response.errorCode == "unauthorized")
        }
      }
    }
  }

  @Test("unknown routes are 404 and wrong methods 405, both as JSON", arguments: SQLDialect.allCases)
  func wrongRoutes(dialect: SQLDialect) async throws {
    try await withServer(dialect) { server async throws -> Void in
      for path in ["/", "/v2/x", "/v1", "/v1/sandbox", "/health/x", "/v1/sandboxes/a/b/c/d"] {
        let response = try await server.send(.GET, path)
        #expect(response.status == 404, "\(path)")
        #expect(response.errorCode == "not_found")
      }
      let wrong = try await server.send(.PUT, "/v1/sandboxes")
      #expect(wrong.status == 405)
      #expect(wrong.errorCode == "method_not_allowed")
      #expect(wrong.headers.first(name: "Allow") == "GET, POST")
      #expect(try await server.send(.POST, "/health").status == 405)
    }
  }

  @Test("a body above the limit is 413, with or without a Content-Length", arguments: SQLDialect.allCases)
  func tooLarge(dialect: SQLDialect) async throws {
    try await withServer(dialect) { server async throws -> Void in
      let body = ByteBuffer(repeating: 0x20, count: Limits.requestBodyBytes + 1)
      let announced = try await server.send(.POST, "/v1/sandboxes", body: .bytes(body))
      #expect(announced.status == 413)
      #expect(announced.errorCode == "too_large")
      let pieces = (0..<40).map { _ in ByteBuffer(repeating: 0x20, count: 65_536) }
      let chunked = try await server.send(
        .POST, "/v1/sandboxes",
        body: .stream(
          AsyncStream { continuation in
            for piece in pieces { continuation.yield(piece) }
            continuation.finish()
          }, length: .unknown))
      #expect(chunked.status == 413)
    }
  }

  @Test("a host's error keeps its code and reveals no internals", arguments: SQLDialect.allCases)
  func hostFailure(dialect: SQLDialect) async throws {
    try await withServer(dialect) { server async throws -> Void in
      await server.host.fail(.create, with: MartletError(.hostUnavailable, "the host is away", cause: SimulatedFault()))
      let response = try await server.send(.POST, "/v1/sandboxes", json: "{}")
      #expect(response.status == 503)
      #expect(response.errorCode == "host_unavailable")
      #expect(!response.text.contains("SimulatedFault"))
      let listed = try await server.send(.GET, "/v1/sandboxes?status=error")
      #expect(listed.list.first?["error"] as? String == "the host is away")
    }
  }

  @Test(
    "while the database is unavailable the response is 503 with a code of its own; afterwards everything works",
    .timeLimit(.minutes(2)))
  func databaseAway() async throws {
    let postgres = try await PrivatePostgres.start()
    try await withTestDatabase(.postgresql, on: postgres) { _, store async throws -> Void in
      let database = try store.connect { $0.patience = .milliseconds(300) }
      try await withServer(on: database) { server async throws -> Void in
        let id = try await server.create()
        try await postgres.kill()
        let response = try await server.send(.GET, "/v1/sandboxes/\(id)")
        #expect(response.status == 503)
        #expect(response.errorCode == "database_unavailable")
        #expect(response.errorMessage?.contains("try again") == true)
        #expect(!response.text.contains("SELECT"))
        #expect(!response.text.contains("martlet-postgres"))
        try await postgres.restart()
        #expect(try await eventually { try await server.send(.GET, "/v1/sandboxes/\(id)").status == 200 })
        #expect(try await server.send(.DELETE, "/v1/sandboxes/\(id)").status == 204)
      }
      try await database.close()
    }
    await postgres.stop()
  }

  @Test("templates and metrics are returned", arguments: SQLDialect.allCases)
  func templatesAndMetrics(dialect: SQLDialect) async throws {
    try await withServer(dialect) { server async throws -> Void in
      let templates = try await server.send(.GET, "/v1/snapshots?type=base")
      #expect(templates.list.compactMap { $0["name"] as? String } == ["base", "minimal"])
      #expect(templates.list.allSatisfy { $0["platform"] as? Bool == true })
      #expect(try await server.send(.GET, "/v1/snapshots?type=snapshot").list.isEmpty)
      #expect(try await server.send(.GET, "/v1/snapshots?type=x").status == 400)
      let id = try await server.create()
      let points = try await server.send(.GET, "/v1/sandboxes/\(id)/metrics").list
      #expect(points.count == 1)
      #expect(points.first?["cpu_pct"] as? Double == 12.5)
    }
  }

  @Test("twenty sandboxes created at once all run", arguments: SQLDialect.allCases)
  func twenty(dialect: SQLDialect) async throws {
    try await withServer(dialect) { server async throws -> Void in
      let ids = try await withThrowingTaskGroup(of: String.self) { group in
        for _ in 0..<20 { group.addTask { try await server.create() } }
        return try await group.reduce(into: []) { $0.append($1) }
      }
      #expect(Set(ids).count == 20)
      #expect(await server.host.sandboxes.count == 20)
    }
  }
}
