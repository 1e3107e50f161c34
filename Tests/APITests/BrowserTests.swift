import ControlPlane
import Foundation
import NIOHTTP1
import TestSupport
import Testing

@testable import API

@Suite(.serialized) struct BrowserTests {
  private static let login = #"{"email":"ada@b.c","password":"correct horse"}"#

  private func cookie(_ server: LiveServer, origin: String, headers: [String: String] = [:]) async throws -> String? {
    let response = try await server.send(
      .POST, "/v1/auth/login", json: Self.login, headers: headers.merging(["Origin": origin]) { $1 },
      isAuthenticated: false)
    return response.headers.first(name: "Set-Cookie")
  }

  @Test("the server's own page gets an HttpOnly SameSite cookie; programs get none")
  func issue() async throws {
    try await withServer { server async throws -> Void in
      _ = try await server.signUp("ada@b.c")
      let header = try #require(try await cookie(server, origin: server.origin))
      let parts = Set(header.split(separator: "; ").dropFirst().map(String.init))
      #expect(
        header.hasPrefix("martlet_session=") && parts == ["Path=/", "Max-Age=21600", "HttpOnly", "SameSite=Strict"])
      let plain = try await server.send(.POST, "/v1/auth/login", json: Self.login, isAuthenticated: false)
      #expect(plain.status == 200 && plain.headers.first(name: "Set-Cookie") == nil)
      let strange = try await server.send(
        .POST, "/v1/auth/login", json: Self.login, headers: ["Origin": "https://evil.example"], isAuthenticated: false)
      #expect(strange.status == 403 && strange.headers.first(name: "Set-Cookie") == nil)
      let out = try await server.send(
        .POST, "/v1/auth/logout", headers: ["Origin": server.origin], isAuthenticated: false)
      #expect(out.status == 204 && out.headers.first(name: "Set-Cookie")?.contains("Max-Age=0") == true)
    }
  }

  @Test(
    "behind a trusted TLS proxy the cookie is Secure and bound to the host; other proxies are not trusted")
  func secure() async throws {
    let forwarded = ["X-Forwarded-Proto": "https", "X-Forwarded-For": "10.9.9.9, 203.0.113.7"]
    try await withServer(trustedProxies: ["127.0.0.1"]) { server async throws -> Void in
      _ = try await server.signUp("ada@b.c")
      let origin = server.origin.replacing("http:", with: "https:")
      let header = try #require(try await cookie(server, origin: origin, headers: forwarded))
      #expect(header.hasPrefix("__Host-martlet_session=") && header.hasSuffix("; Secure"))
      #expect(try await cookie(server, origin: server.origin, headers: forwarded) == nil)
      await server.control.housekeeping.flush()
      let log = try await server.send(.GET, "/v1/audit-logs?action=auth.login", as: try await server.logIn("ada@b.c"))
        .list
      #expect(log.contains { $0["source"] as? String == "203.0.113.7" })
    }
    try await withServer { server async throws -> Void in
      _ = try await server.signUp("ada@b.c")
      #expect(
        try await cookie(server, origin: server.origin.replacing("http:", with: "https:"), headers: forwarded) == nil)
      #expect(
        try await cookie(server, origin: server.origin, headers: forwarded)?.hasPrefix("martlet_session=") == true)
    }
  }

  @Test("behind a TLS proxy the cookie without the __Host- prefix is ignored")
  func planted() async throws {
    let forwarded = ["X-Forwarded-Proto": "https", "X-Forwarded-For": "203.0.113.7"]
    try await withServer(trustedProxies: ["::ffff:127.0.0.1"]) { server async throws -> Void in
      let ada = try await server.signUp("ada@b.c")
      func status(_ cookies: String) async throws -> Int {
        try await server.send(
          .GET, "/v1/me", headers: forwarded.merging(["Cookie": cookies]) { $1 }, isAuthenticated: false
        ).status
      }
      #expect(try await status("__Host-martlet_session=\(ada.token)") == 200)
      #expect(try await status("martlet_session=\(ada.token)") == 401)
      #expect(try await status("martlet_session=planted; __Host-martlet_session=\(ada.token)") == 200)
    }
  }

  @Test(
    "proxy addresses are compared in normalized form",
    arguments: [
      ("::ffff:10.0.0.5", "10.0.0.5"), ("2001:DB8::1", "2001:db8::1"), ("2001:0db8:0:0:0:0:0:1", "2001:db8::1"),
      ("10.0.0.5", "10.0.0.5"),
      ("::1", "::1"),
    ])
  func addresses(_ text: String, _ normal: String) {
    #expect(IPAddressText.normal(text) == normal)
    #expect(IPAddressText.normal("x" + text) == nil)
  }

  @Test("with a cookie only the server's own pages can change anything or open WebSockets")
  func matrix() async throws {
    try await withServer { server async throws -> Void in
      _ = try await server.signUp("ada@b.c")
      let header = try #require(try await cookie(server, origin: server.origin))
      let value = String(header.prefix { $0 != ";" })
      let id = try await server.create()
      let strange = [
        "https://evil.example", "null", server.origin + ".evil.example",
        server.origin.replacing("http:", with: "https:"),
      ]
      func status(
        _ method: HTTPMethod, _ path: String, _ origin: String?, _ more: [String: String] = [:]
      ) async throws -> Int {
        var headers = more.merging(["Cookie": "other=1; \(value)"]) { $1 }
        headers["Origin"] = origin
        return try await server.send(
          method, path, json: method == .POST ? "{}" : nil, headers: headers, isAuthenticated: false
        ).status
      }
      #expect(try await status(.GET, "/v1/me", nil) == 200)
      #expect(try await status(.GET, "/v1/me", server.origin) == 200)
      #expect(try await status(.POST, "/v1/sandboxes", server.origin) == 201)
      #expect(try await status(.POST, "/v1/sandboxes", nil) == 403)
      #expect(try await status(.DELETE, "/v1/api-keys/x", nil) == 403)
      for origin in strange {
        #expect(try await status(.GET, "/v1/me", origin) == 403, "\(origin)")
        #expect(try await status(.POST, "/v1/sandboxes", origin) == 403, "\(origin)")
      }
      let upgrade = [
        "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
      ]
      let socket = "/v1/sandboxes/\(id)/exec/stream"
      // 404: the request is admitted, but the sandbox belongs to another team.
      #expect(try await status(.GET, socket, server.origin, upgrade) == 404)
      for origin in strange + [nil] as [String?] { #expect(try await status(.GET, socket, origin, upgrade) == 403) }
      // A request with a key needs no origin, but a WebSocket with another origin is refused even with a key.
      #expect(try await server.send(.POST, "/v1/sandboxes", json: "{}", headers: ["Cookie": value]).status == 201)
      let withKey = try await server.send(
        .GET, socket, headers: upgrade.merging(["Origin": "https://evil.example"]) { $1 })
      #expect(withKey.status == 403)
      // Two cookies: another host may have set one of them.
      let planted = try await server.send(
        .GET, "/v1/me", headers: ["Cookie": "\(value); martlet_session=x"], isAuthenticated: false)
      #expect(planted.status == 401)
    }
  }

  @Test("no response permits other origins, and every response has the security headers")
  func headers() async throws {
    try await withServer { server async throws -> Void in
      for (method, path) in [
        (HTTPMethod.GET, "/health"), (.GET, "/v1/sandboxes"), (.GET, "/nowhere"), (.OPTIONS, "/v1/sandboxes"),
        (.PUT, "/health"),
      ] {
        let response = try await server.send(method, path, headers: ["Origin": "https://evil.example"])
        #expect(response.headers.first(name: "X-Content-Type-Options") == "nosniff", "\(path)")
        #expect(response.headers.first(name: "Referrer-Policy") == "no-referrer")
        #expect(response.headers.first(name: "X-Frame-Options") == "DENY")
        #expect(response.headers.first(name: "Content-Security-Policy")?.contains("frame-ancestors 'none'") == true)
        #expect(response.headers.first(name: "Cache-Control") == "no-store")
        #expect(!response.headers.contains { $0.name.lowercased().hasPrefix("access-control-") })
      }
    }
  }

  @Test("too many calls with one key, or logins from one address, are 429 with Retry-After")
  func limits() async throws {
    var identity = IdentityConfiguration.forTests
    identity.rates = RateLimits.Rates(
      login: Rate(burst: 3, perSecond: 0.01), signUp: Rate(burst: 3, perSecond: 0.01),
      calls: Rate(burst: 5, perSecond: 0.01))
    try await withServer(identity: identity) { server async throws -> Void in
      let ada = try await server.signUp("ada@b.c")
      var statuses: [Int] = []
      for _ in 0..<7 { statuses.append(try await server.send(.GET, "/v1/sandboxes").status) }
      #expect(statuses == [200, 200, 200, 200, 200, 429, 429])
      let refused = try await server.send(.GET, "/v1/sandboxes")
      #expect(refused.errorCode == "rate_limited" && Int(refused.headers.first(name: "Retry-After") ?? "") ?? 0 > 0)
      // Another caller is not affected.
      #expect(try await server.send(.GET, "/v1/sandboxes", as: ada).status == 200)
      for _ in 0..<3 {
        #expect(
          try await server.send(
            .POST, "/v1/auth/login", json: #"{"email":"x@y.z","password":"wrong"}"#, isAuthenticated: false
          ).status
            == 401)
      }
      let late = try await server.send(.POST, "/v1/auth/login", json: Self.login, isAuthenticated: false)
      #expect(late.status == 429 && late.headers.first(name: "Retry-After") != nil)
    }
  }
}
