import APIClient
import Concurrency
import FakeServer
import Foundation
import NIOCore
import NIOHTTP1
import Testing

@testable import CommandLine

/// A server with one account that records its requests.
private final class FakePeople: Sendable {
  let requests = Mutex([String]())

  func run(_ arguments: [String], input: String = "", home: String) async throws -> Invocation.Outcome {
    try await FakeServer.serving(requests: { try await self.response($0) }) { server in
      try await Invocation.run(
        arguments, input: Array(input.utf8), environment: ["HOME": home, "MARTLET_URL": server.url])
    }
  }

  func response(_ exchange: FakeExchange) async throws {
    guard let body = try await exchange.body() else { return }
    let authorization = exchange.head.headers.first(name: "Authorization") ?? "-"
    requests.withLock { $0.append("\(exchange.head.method) \(exchange.path) \(authorization) \(String(buffer: body))") }
    let session =
      #"{"token":"tok","user_id":"usr-1","team_id":"team-2","email":"a@b.c","name":"A","#
      + #""expires_at":"2999-01-01T00:00:00.000000Z"}"#
    switch (exchange.head.method, exchange.path) {
    case (.POST, "/v1/auth/login"), (.POST, "/v1/auth/switch-team"): try await exchange.respond(.ok, session)
    case (.GET, "/v1/api-keys"), (.GET, "/v1/teams"): try await exchange.respond(.ok, "[]")
    case (.POST, "/v1/api-keys"): try await exchange.respond(.created, #"{"id":"key-1","name":"ci","key":"mrt_new"}"#)
    case (.POST, "/v1/admin/users"):
      try await exchange.respond(.created, #"{"user_id":"usr-9","email":"n@b.c","name":"n","is_admin":true}"#)
    case (.DELETE, _): try await exchange.respond(.noContent)
    default: try await exchange.respond(.notFound, #"{"error":{"code":"not_found","message":"no such route"}}"#)
    }
  }
}

@Suite("Account commands", .timeLimit(.minutes(1)))
struct AccountCommandTests {
  @Test("login stores the session readable by its owner only, and later commands use it")
  func login() async throws {
    try await Invocation.inDirectory { home in
      let server = FakePeople()
      let outcome = try await server.run(["login", "--email", "a@b.c"], input: "correct horse\n", home: home)
      #expect(outcome.code == 0, "\(outcome.errors)")
      #expect(!outcome.text.contains("horse") && !outcome.errors.contains("horse") && !outcome.text.contains("tok"))
      let path = "\(home)/.config/martlet/session.json"
      #expect(try FileManager.default.attributesOfItem(atPath: path)[.posixPermissions] as? Int == 0o600)
      let first = server.requests.withLock { $0.first }
      #expect(first?.hasPrefix("POST /v1/auth/login - ") == true && first?.contains("correct horse") == true)
      // Another port is another server, which does not receive the session.
      let other = FakePeople()
      let refused = try await other.run(["key", "ls"], home: home)
      #expect(refused.code == 77 && refused.errors.contains("martlet login") && other.requests.withLock { $0.isEmpty })
    }
  }

  @Test("the commands for keys, teams and accounts use the session")
  func commands() async throws {
    try await Invocation.inDirectory { home in
      let people = FakePeople()
      try await FakeServer.serving(requests: { try await people.response($0) }) { server async throws -> Void in
        func run(_ arguments: [String], input: String = "") async throws -> Invocation.Outcome {
          try await Invocation.run(
            arguments, input: Array(input.utf8), environment: ["HOME": home, "MARTLET_URL": server.url])
        }
        #expect(try await run(["login", "--email", "a@b.c"], input: "correct horse").code == 0)
        #expect(try await run(["key", "create", "ci"]).text == "mrt_new\n")
        #expect(try await run(["key", "rm", "key-1"]).code == 0)
        #expect(try await run(["team", "use", "team-2"]).text == "team-2\n")
        #expect(try await run(["team", "rm", "team-2"]).code == 0)
        #expect(
          try await run(["user", "create", "--email", "n@b.c", "--admin"], input: "battery staple\n").text == "usr-9\n")
        #expect(try await run(["user", "create", "--email", "n@b.c"]).code == 64)
        let seen = people.requests.withLock { $0 }
        #expect(seen.dropFirst().allSatisfy { $0.contains("Bearer tok") })
        #expect(seen.contains { $0.hasPrefix("DELETE /v1/api-keys/key-1 ") })
        #expect(seen.last?.contains(#""is_admin":true"#) == true)
      }
    }
  }

  @Test("--local uses the database of this machine and no server")
  func local() async throws {
    var services = Invocation.services
    services.createUser = { options in
      UserResource(
        userID: "usr-\(options.dataDirectory)", email: options.user.email, name: options.user.name,
        isAdmin: options.user.isAdmin)
    }
    let outcome = try await Invocation.run(
      ["user", "create", "--email", "root@b.c", "--admin", "--local", "--data-dir", "/d", "--json"],
      input: Array("password".utf8),
      local: services)
    #expect(outcome.code == 0)
    #expect(
      outcome.text.contains(#""is_admin" : true"#) && outcome.text.contains("usr-/d")
        && outcome.text.contains(#""name" : "root""#))
  }

  @Test(
    "access settings are validated",
    arguments: [
      (["MARTLET_SIGN_UP": "maybe"], false), (["MARTLET_RATE_LIMIT": "-1"], false),
      (["MARTLET_RATE_LIMIT": "many"], false),
      (["MARTLET_TRUSTED_PROXIES": "proxy.example"], false), (["MARTLET_SIGN_UP": "closed"], true),
      (["MARTLET_RATE_LIMIT": "0"], true),
      (["MARTLET_RETENTION_DAYS": "-1"], false), (["MARTLET_RETENTION_DAYS": "0"], true),
      (["MARTLET_TRUSTED_PROXIES": "127.0.0.1, ::1"], true),
      (["MARTLET_PUBLIC_HOSTS": "box.example.com, *.example.com, [2001:db8::1]:8443"], true),
      (["MARTLET_PUBLIC_HOSTS": "https://box.example.com/"], false),
    ])
  func settings(_ environment: [String: String], _ isFine: Bool) throws {
    let settings = Settings(environment: environment, file: [:])
    if isFine {
      _ = try AccessOptions(settings)
    } else {
      #expect(throws: APIError.self) { try AccessOptions(settings) }
    }
  }
}
