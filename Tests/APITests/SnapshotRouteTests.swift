import API
import Foundation
import HostAPI
import Model
import NIOCore
import NIOHTTP1
import TestSupport
import Testing

@Suite(.serialized) struct SnapshotRouteTests {
  private func snapshot(
    _ server: LiveServer, of id: String, _ name: String?, query: String = ""
  ) async throws -> LiveServer.TestResponse {
    let field = name.map { #","name":"\#($0)""# } ?? ""
    return try await server.send(.POST, "/v1/snapshots\(query)", json: #"{"sandbox_id":"\#(id)"\#(field)}"#)
  }

  @Test("a snapshot is created, listed, used and deleted")
  func lifecycle() async throws {
    try await withServer { server async throws -> Void in
      let id = try await server.create(#"{"vcpus":2,"memory_mb":256,"disk_size_mb":1024}"#)
      let made = try await snapshot(server, of: id, "golden")
      #expect(made.status == 201)
      #expect(made.json["name"] as? String == "golden" && made.json["type"] as? String == "snapshot")
      #expect(
        made.json["vcpus"] as? Int == 2 && made.json["memory_mb"] as? Int == 256
          && made.json["disk_size_mb"] as? Int == 1024)
      #expect(made.json["size_bytes"] as? Int == 1 << 22 && made.json["platform"] as? Bool == false)
      let both = try await server.send(.GET, "/v1/snapshots").list
      #expect(both.compactMap { $0["name"] as? String } == ["base", "golden", "minimal"])
      #expect(both.compactMap { $0["type"] as? String } == ["base", "snapshot", "base"])
      #expect(try await server.send(.GET, "/v1/snapshots?type=snapshot").list.count == 1)
      #expect(try await server.send(.GET, "/v1/snapshots?type=base").list.count == 2)
      let child = try await server.send(.POST, "/v1/sandboxes", json: #"{"template":"golden"}"#)
      #expect(child.status == 201 && child.json["memory_mb"] as? Int == 256)
      let other = try await server.send(.POST, "/v1/sandboxes", json: #"{"template":"golden","memory_mb":512}"#)
      #expect(other.status == 400)
      #expect(other.errorMessage?.contains("memory_mb 256") == true)
      #expect(try await server.send(.DELETE, "/v1/snapshots/golden").status == 204)
      #expect(try await server.send(.DELETE, "/v1/snapshots/golden").status == 404)
    }
  }

  @Test("duplicates are 409, and overwrite=true replaces")
  func duplicates() async throws {
    try await withServer { server async throws -> Void in
      let id = try await server.create()
      #expect(try await snapshot(server, of: id, "golden").status == 201)
      let again = try await snapshot(server, of: id, "golden")
      #expect(again.status == 409 && again.errorCode == "already_exists")
      #expect(again.errorMessage?.contains("overwrite=true") == true)
      #expect(try await snapshot(server, of: id, "golden", query: "?overwrite=false").status == 409)
      #expect(try await snapshot(server, of: id, "golden", query: "?overwrite=true").status == 201)
      #expect(try await snapshot(server, of: id, "golden", query: "?overwrite=maybe").status == 400)
      #expect(try await snapshot(server, of: id, "base", query: "?overwrite=true").status == 409)
    }
  }

  @Test("the server chooses a name if none is given")
  func madeUp() async throws {
    try await withServer { server async throws -> Void in
      let made = try await snapshot(server, of: try await server.create(), nil)
      #expect(made.status == 201)
      #expect((made.json["name"] as? String)?.wholeMatch(of: /snap-[0-9a-f]{8}/) != nil)
    }
  }

  @Test("deleting a platform template is 403 and changes nothing")
  func platform() async throws {
    try await withServer { server async throws -> Void in
      let response = try await server.send(.DELETE, "/v1/snapshots/base")
      #expect(response.status == 403 && response.errorCode == "forbidden")
      #expect(await server.host.calls[.deleteSnapshot] == nil)
    }
  }

  @Test(
    "unsafe names are 400 on every route",
    arguments: [
      "..", "../etc", "a/b", "a b", "-a", ".a", "a\\n", "", "ä", String(repeating: "a", count: 65), "a\\u0000",
    ])
  func names(name: String) async throws {
    try await withServer { server async throws -> Void in
      let id = try await server.create()
      #expect(try await snapshot(server, of: id, name).status == 400)
      let unescaped = name.replacing("\\n", with: "\n").replacing("\\u0000", with: "\0")
      let encoded = unescaped.addingPercentEncoding(withAllowedCharacters: .alphanumerics) ?? ""
      if !encoded.isEmpty { #expect(try await server.send(.DELETE, "/v1/snapshots/\(encoded)").status == 400) }
      #expect(await server.host.snapshotNames.isEmpty)
    }
  }

  @Test(
    "invalid bodies and queries are 400",
    arguments: [
      (#"{}"#, "sandbox_id"), (#"{"sandbox_id":"x"}"#, "sandbox_id"), (#"{"sandbox_id":5}"#, "sandbox_id"),
      (#"{"sandbox_id":"../../etc"}"#, "sandbox_id"), (#"[]"#, "object"), (#"{"sandbox":"x"}"#, "sandbox_id"),
    ])
  func badBodies(body: String, word: String) async throws {
    try await withServer { server async throws -> Void in
      let response = try await server.send(.POST, "/v1/snapshots", json: body)
      #expect(response.status == 400)
      #expect(response.errorMessage?.contains(word) == true)
      for query in ["type=x", "limit=0", "limit=101", "limit=x", "cursor=..%2F", "cursor="] {
        #expect(try await server.send(.GET, "/v1/snapshots?\(query)").status == 400, "\(query)")
      }
    }
  }

  @Test("a snapshot of an unknown sandbox is 404, of a stopped one 409")
  func source() async throws {
    try await withServer { server async throws -> Void in
      #expect(try await snapshot(server, of: SandboxID().wire, "a").status == 404)
      let id = try await server.create()
      _ = try await server.send(.DELETE, "/v1/sandboxes/\(id)")
      #expect(try await snapshot(server, of: id, "a").status == 409)
    }
  }

  @Test("the list has pages that a cursor connects")
  func paging() async throws {
    try await withServer { server async throws -> Void in
      let id = try await server.create()
      for number in 0..<5 { _ = try await snapshot(server, of: id, "s\(number)") }
      var seen: [String] = []
      var path = "/v1/snapshots?limit=2"
      while true {
        let page = try await server.send(.GET, path)
        seen += page.list.compactMap { $0["name"] as? String }
        guard let cursor = page.headers.first(name: "X-Next-Cursor") else { break }
        path = "/v1/snapshots?limit=2&cursor=\(cursor)"
      }
      #expect(seen == ["base", "minimal", "s0", "s1", "s2", "s3", "s4"])
    }
  }
}
