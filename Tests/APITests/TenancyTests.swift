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

/// Checks on every route that another team's ids are 404. The routes come from the route table, so that a new one is
/// tested too; a route whose request body is unknown here fails the test.
@Suite(.serialized) struct TenancyTests {
  /// Well-formed bodies, so that the refusal does not concern the body.
  private static let bodies: [String: String] = [
    "POST /v1/sandboxes/:id/exec": #"{"cmd":"true"}"#, "POST /v1/sandboxes/:id/files/read": #"{"path":"/x"}"#,
    "POST /v1/sandboxes/:id/files/stream/read": #"{"path":"/x"}"#,
    "POST /v1/sandboxes/:id/files/list": #"{"path":"/"}"#,
    "POST /v1/sandboxes/:id/files/mkdir": #"{"path":"/x"}"#, "POST /v1/sandboxes/:id/files/remove": #"{"path":"/x"}"#,
    "POST /v1/sandboxes/:id/files/rename": #"{"from":"/x","to":"/y"}"#,
    "POST /v1/sandboxes/:id/files/stat": #"{"path":"/x"}"#,
    "POST /v1/sandboxes/:id/timeout": #"{"timeout_sec":60}"#, "PATCH /v1/teams/:id": #"{"name":"theirs"}"#,
    "POST /v1/teams/:id/members": #"{"email":"eve@b.c"}"#,
    "PATCH /v1/teams/:id/members/:uid": #"{"role":"admin"}"#,
  ]

  /// Ids of the victim's objects, by path prefix.
  private struct Victim {
    var sandbox: String
    var team: String
    var user: String
    var key: String
    var snapshot: String

    /// Ids that do not exist.
    static func absent() -> Victim {
      func id(_ prefix: String) -> String { "\(prefix)-\(UUID().uuidString.lowercased())" }
      return Victim(sandbox: id("sb"), team: id("team"), user: id("usr"), key: id("key"), snapshot: "nobodys")
    }

    /// A response in which ids are replaced.
    func anonymous(_ text: String) -> String {
      [sandbox, team, user, key, snapshot].reduce(text) { $0.replacing($1, with: "*") }
    }

    func path(_ pattern: String) -> String? {
      let id: String? =
        switch true {
        case pattern.hasPrefix("/v1/sandboxes/:id"): sandbox
        case pattern.hasPrefix("/v1/teams/:id"): team
        case pattern.hasPrefix("/v1/api-keys/:id"): key
        case pattern.hasPrefix("/v1/snapshots/:name"): snapshot
        default: nil
        }
      guard let id else { return nil }
      let path = pattern.replacing(":id", with: id).replacing(":name", with: id).replacing(":uid", with: user)
        .replacing(":selector", with: "100").replacing(":pid", with: "100")
      return path.contains(":") ? nil : path
    }
  }

  @Test("no route shows or changes an object of another team", arguments: SQLDialect.allCases)
  func everyRoute(dialect: SQLDialect) async throws {
    try await withServer(dialect) { server async throws -> Void in
      let ada = try await server.signUp("ada@b.c")
      let eve = try await server.signUp("eve@b.c")
      let (adasKey, evesKey) = (try await server.makeKey(for: ada), try await server.makeKey(for: eve))
      let created = try await server.send(.POST, "/v1/sandboxes", json: "{}", key: adasKey.secret)
      let sandbox = try #require(created.json["id"] as? String)
      _ = try await server.send(
        .POST, "/v1/snapshots", json: #"{"sandbox_id":"\#(sandbox)","name":"theirs"}"#, key: adasKey.secret)
      let victim = Victim(sandbox: sandbox, team: ada.team, user: ada.user, key: adasKey.id, snapshot: "theirs")
      let absent = Victim.absent()
      let before = await server.host.sandboxes
      var tried = 0
      for entry in server.routes.entries
      where entry.path.contains(":") && entry.access != .open && entry.access != .admin {
        guard let path = victim.path(entry.path), let nowhere = absent.path(entry.path) else {
          Issue.record("no id for \(entry.method) \(entry.path); say here what another team has there")
          continue
        }
        // With a session on all routes, and with a key where a key is sufficient.
        for key in entry.access == .team ? [nil, evesKey.secret] : [nil] {
          let response = try await attempt(entry, path, server, eve, key)
          #expect(
            response.status == 404 && response.errorCode == "not_found",
            "\(entry.method) \(entry.path): \(response.status) \(response.text)")
          // The response must be identical to that for an id that does not exist. A missing file in an own sandbox has
          // another message.
          let reference = try await attempt(entry, nowhere, server, eve, key)
          #expect(victim.anonymous(response.text) == absent.anonymous(reference.text), "\(entry.method) \(entry.path)")
          tried += 1
        }
      }
      #expect(tried >= 40)
      #expect(await server.host.sandboxes == before)
      #expect(
        try await server.send(.GET, "/v1/sandboxes/\(sandbox)", key: adasKey.secret).json["status"] as? String
          == "running")
      #expect(try await server.send(.GET, "/v1/teams/\(ada.team)/members", as: ada).list.count == 1)
      #expect(try await server.send(.GET, "/v1/api-keys", as: ada).list.count == 1)
      #expect(try await server.send(.GET, "/v1/snapshots?type=snapshot", as: ada).list.count == 1)
    }
  }

  @Test("ids of another team in a body do not exist either", arguments: SQLDialect.allCases)
  func bodies(dialect: SQLDialect) async throws {
    try await withServer(dialect) { server async throws -> Void in
      let (ada, eve) = (try await server.signUp("ada@b.c"), try await server.signUp("eve@b.c"))
      let sandbox = try #require(
        try await server.send(.POST, "/v1/sandboxes", as: ada, json: "{}").json["id"] as? String)
      let frozen = try await server.send(
        .POST, "/v1/snapshots", as: ada, json: #"{"sandbox_id":"\#(sandbox)","name":"theirs"}"#)
      #expect(frozen.status == 201)
      let attempts = [
        ("/v1/snapshots", #"{"sandbox_id":"\#(sandbox)"}"#), ("/v1/sandboxes", #"{"template":"theirs"}"#),
        ("/v1/auth/switch-team", #"{"team_id":"\#(ada.team)"}"#),
      ]
      for (path, json) in attempts {
        let response = try await server.send(.POST, path, as: eve, json: json)
        #expect(response.status == 404 && response.errorCode == "not_found", "\(path)")
      }
    }
  }

  @Test("lists show only the caller's team", arguments: SQLDialect.allCases)
  func lists(dialect: SQLDialect) async throws {
    try await withServer(dialect) { server async throws -> Void in
      let (ada, eve) = (try await server.signUp("ada@b.c"), try await server.signUp("eve@b.c"))
      let created = try await server.send(.POST, "/v1/sandboxes", as: ada, json: #"{"metadata":{"a":"b"}}"#)
      let key = try await server.makeKey(for: ada)
      let secrets = [try #require(created.json["id"] as? String), key.id, ada.team, ada.user, "ada@b.c"]
      for entry in server.routes.entries
      where entry.method == "GET" && !entry.path.contains(":") && (entry.access == .team || entry.access == .user) {
        let response = try await server.send(.GET, entry.path, as: eve)
        for secret in secrets { #expect(!response.text.contains(secret), "\(entry.path)") }
      }
    }
  }

  private func attempt(
    _ entry: RouteTable.Entry, _ path: String, _ server: LiveServer, _ person: TestUser, _ key: String?
  ) async throws -> LiveServer.TestResponse {
    let method = HTTPMethod(rawValue: entry.method)
    var headers = key == nil ? ["Authorization": "Bearer \(person.token)"] : [:]
    if entry.path.hasSuffix("/stream") || entry.path.hasSuffix("/pty") {
      let handshake = [
        "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
      ]
      headers.merge(handshake) { $1 }
    }
    if entry.path.hasSuffix("/write") {
      headers["Content-Type"] = "multipart/form-data; boundary=B"
      let form =
        "--B\r\nContent-Disposition: form-data; name=\"path\"\r\n\r\n/x\r\n"
        + "--B\r\nContent-Disposition: form-data; name=\"file\"\r\n\r\nx\r\n--B--\r\n"
      return try await server.send(
        method, path, body: .bytes(.init(string: form)), headers: headers, key: key, isAuthenticated: key != nil)
    }
    let body = method == .GET || method == .DELETE ? nil : Self.bodies["\(entry.method) \(entry.path)"] ?? "{}"
    return try await server.send(method, path, json: body, headers: headers, key: key, isAuthenticated: key != nil)
  }
}
