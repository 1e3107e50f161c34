import API
import ControlPlane
import Foundation
import Model
import NIOHTTP1
import Persistence
import TestSupport
import Testing

@Suite(.serialized) struct AuthRouteTests {
  @Test("a user signs up, logs in, reads and changes their account", arguments: SQLDialect.allCases)
  func account(dialect: SQLDialect) async throws {
    try await withServer(dialect) { server async throws -> Void in
      let ada = try await server.signUp("Ada@Example.com")
      #expect(ada.email == "ada@example.com" && ada.user.hasPrefix("usr-") && ada.team.hasPrefix("team-"))
      #expect(try await server.logIn("ada@example.com").user == ada.user)
      let me = try await server.send(.GET, "/v1/me", as: ada)
      #expect(me.status == 200 && me.json["role"] as? String == "owner" && me.json["is_admin"] as? Bool == false)
      #expect(!me.text.contains("argon2"))
      let renamed = try await server.send(.PATCH, "/v1/me", as: ada, json: #"{"name":"Countess"}"#)
      #expect(renamed.json["name"] as? String == "Countess")
      let changed = try await server.send(
        .POST, "/v1/me/password", as: ada,
        json: #"{"current_password":"correct horse","new_password":"battery staple"}"#)
      #expect(changed.status == 200 && changed.json["token"] as? String != nil)
      #expect(try await server.send(.GET, "/v1/me", as: ada).status == 401)
      #expect(try await server.logIn("ada@example.com", "battery staple").user == ada.user)
    }
  }

  @Test("refusals have the documented status, code and message", arguments: SQLDialect.allCases)
  func refusals(dialect: SQLDialect) async throws {
    try await withServer(dialect) { server async throws -> Void in
      _ = try await server.signUp("a@b.c")
      let cases: [(path: String, json: String, status: Int, code: String)] = [
        ("signup", #"{"email":"A@b.c ","password":"correct horse","name":"N"}"#, 409, "email_taken"),
        ("signup", #"{"email":"x","password":"correct horse","name":"N"}"#, 400, "invalid_request"),
        ("signup", #"{"email":"x@y.z","password":"short","name":"N"}"#, 400, "invalid_request"),
        ("signup", #"{"email":"x@y.z","password":"correct horse"}"#, 400, "invalid_request"),
        ("signup", #"{"email":"x@y.z","password":"correct horse","name":"N","is_admin":true}"#, 400, "invalid_request"),
        ("login", #"{"email":"a@b.c","password":"wrong"}"#, 401, "unauthorized"),
        ("login", #"{"email":"nobody@b.c","password":"correct horse"}"#, 401, "unauthorized"),
        ("login", #"{"email":"\#(String(repeating: "a", count: 20_000))","password":"p"}"#, 413, "too_large"),
      ]
      for (path, json, status, code) in cases {
        let response = try await server.send(.POST, "/v1/auth/\(path)", json: json, isAuthenticated: false)
        #expect(response.status == status && response.errorCode == code, "\(path) \(json.prefix(60))")
        #expect(response.errorMessage?.isEmpty == false)
      }
    }
  }

  @Test(
    "sandbox routes accept a key or a session, account routes a session, admin routes an administrator's session",
    arguments: SQLDialect.allCases)
  func access(dialect: SQLDialect) async throws {
    try await withServer(dialect) { server async throws -> Void in
      let ada = try await server.signUp("ada@b.c")
      let key = try await server.makeKey(for: ada)
      let admin = try await server.logInAsAdmin()
      let created = try await server.send(.POST, "/v1/sandboxes", as: ada, json: "{}")
      #expect(created.status == 201 && created.json["team_id"] as? String == ada.team)
      #expect(try await server.send(.GET, "/v1/sandboxes", key: key.secret).list.count == 1)
      #expect(try await server.send(.GET, "/v1/sandboxes", key: "e2b_" + key.secret.dropFirst(4)).list.count == 1)
      for entry in server.routes.entries where ![.open, .operators].contains(entry.access) && !entry.path.contains(":")
      {
        let method = HTTPMethod(rawValue: entry.method)
        let anonymous = try await server.send(method, entry.path, isAuthenticated: false)
        #expect(anonymous.status == 401 && anonymous.errorCode == "unauthorized", "\(entry)")
        guard entry.access != .team else { continue }
        let withKey = try await server.send(method, entry.path, key: key.secret)
        #expect(withKey.status == 403 && withKey.errorCode == "forbidden", "\(entry)")
        guard entry.access == .admin else { continue }
        #expect(try await server.send(method, entry.path, as: ada).status == 403, "\(entry)")
        if method == .GET { #expect(try await server.send(method, entry.path, as: admin).status == 200, "\(entry)") }
      }
    }
  }

  @Test(
    "keys are returned once, listed without their secret, and refused after their deletion",
    arguments: SQLDialect.allCases)
  func keys(dialect: SQLDialect) async throws {
    try await withServer(dialect) { server async throws -> Void in
      let ada = try await server.signUp("ada@b.c")
      let response = try await server.send(.POST, "/v1/api-keys", as: ada, json: "{}")
      let secret = try #require(response.json["key"] as? String)
      let id = try #require(response.json["id"] as? String)
      #expect(secret.wholeMatch(of: /mrt_[0-9a-f]{40}/) != nil)
      #expect(response.json["created_by"] as? String == ada.user && response.json["team_id"] as? String == ada.team)
      #expect(secret.hasPrefix(response.json["key_prefix"] as? String ?? "?"))
      #expect(try await server.send(.GET, "/v1/sandboxes", key: secret).status == 200)
      await server.control.housekeeping.flush()
      let list = try await server.send(.GET, "/v1/api-keys", as: ada)
      #expect(list.list.first?["last_used"] is String && !list.text.contains(secret.dropFirst(12)))
      #expect(try await server.send(.DELETE, "/v1/api-keys/\(id)", as: ada).status == 204)
      #expect(try await server.send(.GET, "/v1/sandboxes", key: secret).status == 401)
      #expect(try await server.send(.DELETE, "/v1/api-keys/\(id)", as: ada).status == 404)
      for _ in 0..<3 { _ = try await server.makeKey(for: ada) }
      let page = try await server.send(.GET, "/v1/api-keys?limit=2", as: ada)
      let cursor = try #require(page.headers.first(name: "X-Next-Cursor"))
      let rest = try await server.send(.GET, "/v1/api-keys?limit=2&cursor=\(cursor)", as: ada)
      #expect(page.list.count == 2 && rest.list.count == 1 && rest.headers.first(name: "X-Next-Cursor") == nil)
    }
  }

  @Test(
    "a removed member is refused on the next call, and can still use their other teams", arguments: SQLDialect.allCases)
  func removal(dialect: SQLDialect) async throws {
    try await withServer(dialect) { server async throws -> Void in
      let ada = try await server.signUp("ada@b.c")
      let bob = try await server.signUp("bob@b.c")
      let added = try await server.send(
        .POST, "/v1/teams/\(ada.team)/members", as: ada, json: #"{"email":"bob@b.c","role":"member"}"#)
      #expect(added.status == 201)
      let switched = try await server.send(.POST, "/v1/auth/switch-team", as: bob, json: #"{"team_id":"\#(ada.team)"}"#)
      var guest = bob
      guest.token = try #require(switched.json["token"] as? String)
      let key = try await server.makeKey(for: guest)
      #expect(try await server.send(.GET, "/v1/sandboxes", as: guest).status == 200)
      #expect(try await server.send(.DELETE, "/v1/teams/\(ada.team)/members/\(bob.user)", as: ada).status == 204)
      for path in ["/v1/sandboxes", "/v1/api-keys", "/v1/audit-logs", "/v1/snapshots"] {
        let response = try await server.send(.GET, path, as: guest)
        #expect(response.status == 403 && response.errorCode == "no_team", "\(path)")
      }
      #expect(try await server.send(.GET, "/v1/sandboxes", key: key.secret).status == 401)
      #expect(try await server.send(.GET, "/v1/teams", as: guest).list.compactMap { $0["id"] as? String } == [bob.team])
      #expect(
        try await server.send(.POST, "/v1/auth/switch-team", as: guest, json: #"{"team_id":"\#(ada.team)"}"#).status
          == 404)
      #expect(
        try await server.send(.POST, "/v1/auth/switch-team", as: guest, json: #"{"team_id":"\#(bob.team)"}"#).status
          == 200)
    }
  }

  @Test(
    "the audit log lists a team's changes, newest first, with filters and pages",
    arguments: SQLDialect.allCases)
  func auditLog(dialect: SQLDialect) async throws {
    try await withServer(dialect) { server async throws -> Void in
      let ada = try await server.signUp("ada@b.c")
      let key = try await server.makeKey(for: ada)
      let id = try #require(
        try await server.send(.POST, "/v1/sandboxes", json: "{}", key: key.secret).json["id"] as? String)
      _ = try await server.send(.POST, "/v1/teams/\(ada.team)/leave", as: ada)
      await server.control.housekeeping.flush()
      let all = try await server.send(.GET, "/v1/audit-logs", as: ada).list
      #expect(all.first?["action"] as? String == "member.leave" && all.first?["outcome"] as? String == "invalid_state")
      #expect(all.contains { $0["action"] as? String == "user.create" && $0["source"] as? String == "127.0.0.1" })
      #expect(all.allSatisfy { $0["team_id"] as? String == ada.team })
      let ofSandbox = try await server.send(.GET, "/v1/audit-logs?target_id=\(id)&outcome=ok", as: ada).list
      #expect(ofSandbox.compactMap { $0["actor_id"] as? String } == [key.id])
      let page = try await server.send(.GET, "/v1/audit-logs?limit=2", as: ada)
      let cursor = try #require(page.headers.first(name: "X-Next-Cursor"))
      let next = try await server.send(.GET, "/v1/audit-logs?limit=2&cursor=\(cursor)", as: ada).list
      #expect(next.first?["id"] as? String == all[2]["id"] as? String)
      #expect(all.allSatisfy { ($0["id"] as? String)?.wholeMatch(of: /[0-9a-f]{16}/) != nil })
      for bad in [
        "since=yesterday", "since=300000-01-01T00:00:00Z", "until=9999999999-01-01T00:00:00Z", "limit=0", "cursor=x",
        "cursor=7", "cursor=0000000000000007", "cursor=\(cursor.uppercased())A", "team_id=x",
        "action=", "action=%00", "target_id=a%00",
      ] {
        #expect(try await server.send(.GET, "/v1/audit-logs?\(bad)", as: ada).status == 400, "\(bad)")
      }
      let admin = try await server.logInAsAdmin()
      #expect(try await server.send(.GET, "/v1/audit-logs?team_id=\(admin.team)", as: ada).status == 404)
      #expect(try await server.send(.GET, "/v1/audit-logs?team_id=\(ada.team)", as: admin).list.count == all.count)
      // A cursor of one team is not accepted in the log of another team.
      let eve = try await server.signUp("eve@b.c")
      #expect(try await server.send(.GET, "/v1/audit-logs?cursor=\(cursor)", as: eve).status == 400)
    }
  }

  @Test("administrators list all objects, create accounts and set quotas", arguments: SQLDialect.allCases)
  func administration(dialect: SQLDialect) async throws {
    try await withServer(dialect) { server async throws -> Void in
      let admin = try await server.logInAsAdmin()
      let ada = try await server.signUp("ada@b.c")
      _ = try await server.send(.POST, "/v1/sandboxes", as: ada, json: "{}")
      #expect(try await server.send(.GET, "/v1/admin/users", as: admin).list.count == 2)
      #expect(
        try await server.send(.GET, "/v1/admin/sandboxes", as: admin).list.compactMap { $0["team_id"] as? String } == [
          ada.team
        ])
      #expect(try await server.send(.GET, "/v1/admin/hosts", as: admin).list.first?["running"] as? Int == 1)
      #expect(try await server.send(.GET, "/v1/admin/templates", as: admin).list.count == 2)
      let teams = try await server.send(.GET, "/v1/admin/teams", as: admin).list
      let usage = teams.first { $0["id"] as? String == ada.team }?["usage"] as? [String: Any]
      #expect(usage?["sandboxes"] as? Int == 1 && usage?["memory_mb"] as? Int == 512)
      let quota = try await server.send(
        .PATCH, "/v1/admin/teams/\(ada.team)", as: admin, json: #"{"quota":{"max_sandboxes":1}}"#)
      #expect((quota.json["quota"] as? [String: Any])?["max_sandboxes"] as? Int == 1)
      let refused = try await server.send(.POST, "/v1/sandboxes", as: ada, json: "{}")
      #expect(refused.status == 403 && refused.errorCode == "quota_exceeded")
      for bad in [#"{"quota":{"max_sandboxes":-1}}"#, "{}", #"{"quota":{"sandboxes":1}}"#] {
        #expect(try await server.send(.PATCH, "/v1/admin/teams/\(ada.team)", as: admin, json: bad).status == 400)
      }
      #expect(
        try await server.send(.PATCH, "/v1/admin/users/\(ada.user)", as: admin, json: #"{"is_admin":true}"#).status
          == 200)
      #expect(try await server.send(.GET, "/v1/admin/users", as: ada).status == 200)
      let body = #"{"email":"eve@b.c","password":"correct horse","name":"Eve"}"#
      #expect(try await server.send(.POST, "/v1/admin/users", as: ada, json: body).status == 201)
      #expect(try await server.logIn("eve@b.c").email == "eve@b.c")
    }
  }

  @Test(
    "metrics are public on this machine and need an administrator's session or key from other machines",
    arguments: SQLDialect.allCases
  )
  func metrics(dialect: SQLDialect) async throws {
    try await withServer(dialect) { server async throws -> Void in
      let (admin, ada) = (try await server.logInAsAdmin(), try await server.signUp("ada@b.c"))
      let (key, adasKey) = (try await server.makeKey(for: admin), try await server.makeKey(for: ada))
      #expect(try await server.send(.GET, "/metrics", isAuthenticated: false).status == 200)
      // A request that a local proxy forwards counts as remote.
      for proxy in ["X-Forwarded-For", "Forwarded", "Via"] {
        func status(_ headers: [String: String] = [:]) async throws -> Int {
          let headers = headers.merging([proxy: "192.0.2.1"]) { $1 }
          return try await server.send(.GET, "/metrics", headers: headers, isAuthenticated: false).status
        }
        #expect(try await status() == 401)
        #expect(try await status(["Authorization": "Bearer x"]) == 401)
        #expect(try await status(["Authorization": "Bearer \(ada.token)"]) == 403)
        #expect(try await status(["X-API-Key": adasKey.secret]) == 403)
        #expect(try await status(["Authorization": "Bearer \(admin.token)"]) == 200)
        #expect(try await status(["Authorization": "Bearer \(key.secret)"]) == 200)
        #expect(try await status(["X-API-Key": key.secret]) == 200)
        // The key of the first start belongs to the administrator.
        #expect(try await status(["X-API-Key": server.key]) == 200)
      }
      #expect(try await server.send(.DELETE, "/v1/api-keys/\(key.id)", as: admin).status == 204)
      let headers = ["X-Forwarded-For": "192.0.2.1", "X-API-Key": key.secret]
      #expect(try await server.send(.GET, "/metrics", headers: headers, isAuthenticated: false).status == 401)
    }
  }

  @Test("deleting a team destroys its sandboxes and invalidates its keys", arguments: SQLDialect.allCases)
  func teamDeletion(dialect: SQLDialect) async throws {
    try await withServer(dialect) { server async throws -> Void in
      let ada = try await server.signUp("ada@b.c")
      let key = try await server.makeKey(for: ada)
      _ = try await server.send(.POST, "/v1/sandboxes", json: "{}", key: key.secret)
      #expect(try await server.send(.DELETE, "/v1/teams/\(ada.team)", as: ada).status == 204)
      #expect(try await server.send(.GET, "/v1/sandboxes", key: key.secret).status == 401)
      #expect(try await eventually { await server.host.sandboxes.isEmpty })
      let login = try await server.send(
        .POST, "/v1/auth/login", json: #"{"email":"ada@b.c","password":"correct horse"}"#, isAuthenticated: false)
      #expect(login.status == 403 && login.errorCode == "no_team")
    }
  }

  @Test("a repeated create with an Idempotency-Key returns the same sandbox", arguments: SQLDialect.allCases)
  func idempotency(dialect: SQLDialect) async throws {
    try await withServer(dialect) { server async throws -> Void in
      let headers = ["Idempotency-Key": "order-7"]
      let first = try await server.send(.POST, "/v1/sandboxes", json: #"{"vcpus":2,"memory_mb":512}"#, headers: headers)
      let again = try await server.send(
        .POST, "/v1/sandboxes", json: #"{"memory_mb":512, "vcpus":2}"#, headers: headers)
      #expect(first.status == 201 && again.status == 201 && first.json["id"] as? String == again.json["id"] as? String)
      let other = try await server.send(.POST, "/v1/sandboxes", json: #"{"vcpus":1}"#, headers: headers)
      #expect(other.status == 409 && other.errorCode == "idempotency_conflict")
      #expect(await server.host.sandboxes.count == 1)
    }
  }
}
