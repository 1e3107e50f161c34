import API
import ControlPlane
import Foundation
import Model
import NIOHTTP1
import Persistence
import TestSupport
import Testing

@Suite(.serialized) struct StatisticsRouteTests {
  @Test("statistics count only the team's own sandboxes", arguments: SQLDialect.allCases)
  func statistics(dialect: SQLDialect) async throws {
    try await withServer(dialect) { server async throws -> Void in
      _ = try await server.create(#"{"vcpus":2,"memory_mb":256}"#)
      await server.control.monitor.tick()
      let response = try await server.send(.GET, "/v1/sandboxes/stats?range=24h")
      #expect(
        response.status == 200 && response.json["range"] as? String == "24h" && response.json["step_sec"] as? Int == 900
      )
      for part in ["now", "peak"] {
        #expect(response.json[part] as? [String: Int] == ["running": 1, "vcpus": 2, "memory_mb": 256], "\(part)")
      }
      let otherUser = try await server.signUp("other@b.c")
      let other = try await server.send(.GET, "/v1/sandboxes/stats", as: otherUser).json
      #expect(
        other["now"] as? [String: Int] == ["running": 0, "vcpus": 0, "memory_mb": 0]
          && (other["series"] as? [Any])?.isEmpty == true)
    }
  }

  @Test(
    "a sandbox's load in a range is returned to its team only, also after the sandbox was destroyed",
    arguments: SQLDialect.allCases)
  func load(dialect: SQLDialect) async throws {
    try await withServer(dialect) { server async throws -> Void in
      let path = "/v1/sandboxes/\(try await server.create())/metrics"
      #expect(try await server.send(.GET, path).list.count == 1)
      await server.control.monitor.tick()
      let points = try await server.send(.GET, "\(path)?range=1h").list
      #expect(points.count == 2)
      for point in points {
        #expect(
          point["cpu_pct"] as? Double == 12.5 && point["mem_bytes"] as? Int == 1 << 26
            && point["disk_bytes"] as? Int == 1 << 20)
      }
      #expect(try await server.send(.GET, "\(path)?range=1d").status == 400)
      let otherUser = try await server.signUp("other@b.c")
      #expect(try await server.send(.GET, "\(path)?range=1h", as: otherUser).status == 404)
      #expect(try await server.send(.DELETE, String(path.dropLast("/metrics".count))).status == 204)
      #expect(try await server.send(.GET, path).status == 409)
      #expect(try await server.send(.GET, "\(path)?range=7d").list.count == 1)
    }
  }

  @Test("an invalid range is refused, and the route is not taken for a sandbox id")
  func refusals() async throws {
    try await withServer { server async throws -> Void in
      for range in ["", "2h", "1H", "-1"] {
        let response = try await server.send(.GET, "/v1/sandboxes/stats?range=\(range)")
        #expect(response.status == 400 && response.errorMessage?.contains("1h, 6h, 24h, 7d") == true, "\(range)")
      }
      let wrong = try await server.send(.DELETE, "/v1/sandboxes/stats")
      #expect(wrong.status == 405 && wrong.headers.first(name: "Allow") == "GET")
      #expect(try await server.send(.PUT, "/v1/sandboxes/x").headers.first(name: "Allow") == "DELETE, GET")
    }
  }

  @Test(
    "only administrators delete snapshots of any team, and base templates cannot be deleted",
    arguments: SQLDialect.allCases)
  func templates(dialect: SQLDialect) async throws {
    try await withServer(dialect) { server async throws -> Void in
      let owner = try await server.signUp("owner@b.c")
      let box = try await server.send(.POST, "/v1/sandboxes", as: owner, json: "{}").json["id"] as? String ?? ""
      let made = try await server.send(
        .POST, "/v1/snapshots", as: owner, json: #"{"sandbox_id":"\#(box)","name":"golden"}"#)
      #expect(made.status == 201)
      let path = "/v1/admin/templates/golden?team_id=\(owner.team)"
      #expect(try await server.send(.DELETE, path, as: owner).status == 403)
      let admin = try await server.logInAsAdmin()
      #expect(try await server.send(.DELETE, "/v1/admin/templates/golden", as: admin).status == 404)
      #expect(try await server.send(.DELETE, "/v1/admin/templates/minimal", as: admin).status == 403)
      #expect(try await server.send(.DELETE, "/v1/admin/templates/golden?team_id=x", as: admin).status == 400)
      #expect(try await server.send(.DELETE, path, as: admin).status == 204)
      #expect(try await server.send(.DELETE, path, as: admin).status == 404)
      #expect(try await server.send(.GET, "/v1/snapshots?type=snapshot", as: owner).list.isEmpty)
      await server.control.housekeeping.flush()
      let log = try await server.send(.GET, "/v1/audit-logs?action=snapshot.delete", as: owner).list
      #expect(log.first?["actor_id"] as? String == admin.user && log.first?["outcome"] as? String == "ok")
    }
  }
}
