import API
import Foundation
import HostAPI
import Model
import NIOCore
import NIOHTTP1
import TestSupport
import Testing

@Suite(.serialized) struct LifecycleRouteTests {
  @Test("pause and resume return the sandbox and the phases; a resume needs no body")
  func cycle() async throws {
    try await withServer { server async throws -> Void in
      let id = try await server.create(#"{"auto_resume":true,"timeout_sec":60}"#)
      let paused = try await server.send(.POST, "/v1/sandboxes/\(id)/pause")
      #expect(paused.status == 200)
      #expect(paused.json["status"] as? String == "paused")
      #expect(paused.json["auto_resume"] as? Bool == true && paused.json["auto_paused"] as? Bool == false)
      #expect((paused.json["timings_ms"] as? [String: Double])?["freeze"] == 1)
      #expect(try await server.send(.GET, "/v1/sandboxes/\(id)").json["timings_ms"] == nil)
      #expect(try await server.send(.POST, "/v1/sandboxes/\(id)/resume").json["status"] as? String == "running")
      for body in ["{}", #"{"generation":null}"#, #"{"generation":"latest"}"#, #"{"generation":"previous"}"#] {
        #expect(try await server.send(.POST, "/v1/sandboxes/\(id)/pause", json: "{}").status == 200)
        #expect(try await server.send(.POST, "/v1/sandboxes/\(id)/resume", json: body).status == 200, "\(body)")
      }
    }
  }

  @Test("operations in a wrong state are 409 with a message that names the state")
  func wrongState() async throws {
    try await withServer { server async throws -> Void in
      let id = try await server.create()
      let running = try await server.send(.POST, "/v1/sandboxes/\(id)/resume")
      #expect(running.status == 409 && running.errorCode == "invalid_state")
      #expect(running.errorMessage?.contains("running") == true)
      _ = try await server.send(.POST, "/v1/sandboxes/\(id)/pause")
      for verb in ["pause", "ping"] {
        let response = try await server.send(.POST, "/v1/sandboxes/\(id)/\(verb)")
        #expect(response.status == 409 && response.errorCode == "invalid_state", "\(verb)")
      }
      let exec = try await server.send(.POST, "/v1/sandboxes/\(id)/exec", json: #"{"cmd":"echo"}"#)
      #expect(exec.status == 409)
      #expect(exec.errorMessage?.contains("resume it first") == true)
      #expect(try await server.send(.DELETE, "/v1/sandboxes/\(id)").status == 204)
      #expect(await server.host.sandboxes.isEmpty)
    }
  }

  @Test(
    "invalid bodies are 400 with a message that names the field",
    arguments: [
      ("resume", #"{"generation":"oldest"}"#, "generation"), ("resume", #"{"generation":1}"#, "generation"),
      ("resume", #"{"generatoin":"previous"}"#, "generation"), ("resume", "[]", "object"), ("resume", "{", "JSON"),
      ("fork", #"{"count":0}"#, "count"), ("fork", #"{"count":101}"#, "count"), ("fork", #"{"count":-1}"#, "count"),
      ("fork", #"{"count":"2"}"#, "count"), ("fork", #"{"count":1e99}"#, "count"), ("fork", #"{"n":2}"#, "n"),
      ("timeout", "{}", "timeout_sec"), ("timeout", #"{"timeout_sec":-1}"#, "timeout_sec"),
      ("timeout", #"{"timeout_sec":2592001}"#, "timeout_sec"), ("timeout", #"{"timeout_sec":1.5}"#, "timeout_sec"),
    ])
  func badBodies(verb: String, body: String, word: String) async throws {
    try await withServer { server async throws -> Void in
      let id = try await server.create()
      if verb == "resume" { _ = try await server.send(.POST, "/v1/sandboxes/\(id)/pause") }
      let response = try await server.send(.POST, "/v1/sandboxes/\(id)/\(verb)", json: body)
      #expect(response.status == 400)
      #expect(response.errorCode == "invalid_request")
      #expect(response.errorMessage?.contains(word) == true)
      #expect(await server.host.sandboxes.count == 1)
    }
  }

  @Test("malformed ids are 400, unknown ones 404", arguments: ["pause", "resume", "fork", "ping", "timeout"])
  func ids(verb: String) async throws {
    try await withServer { server async throws -> Void in
      let body = verb == "timeout" ? #"{"timeout_sec":1}"# : nil
      for bad in ["x", "sb-1", "sb-\(UUID().uuidString)", "..%2F..", "sb-%00"] {
        #expect(try await server.send(.POST, "/v1/sandboxes/\(bad)/\(verb)", json: body).status == 400, "\(bad)")
      }
      #expect(try await server.send(.POST, "/v1/sandboxes/\(SandboxID().wire)/\(verb)", json: body).status == 404)
      #expect(try await server.send(.GET, "/v1/sandboxes/\(SandboxID().wire)/\(verb)").status == 405)
    }
  }

  @Test("fork returns 201 with the copies, one if no count is given")
  func fork() async throws {
    try await withServer { server async throws -> Void in
      let id = try await server.create(#"{"metadata":{"a":"b"}}"#)
      let one = try await server.send(.POST, "/v1/sandboxes/\(id)/fork")
      #expect(one.status == 201 && one.list.count == 1)
      let three = try await server.send(.POST, "/v1/sandboxes/\(id)/fork", json: #"{"count":3}"#)
      #expect(three.list.count == 3)
      #expect(
        three.list.allSatisfy {
          ($0["metadata"] as? [String: String]) == ["a": "b"] && $0["status"] as? String == "running"
        })
      await server.host.failFork(at: 0, with: MartletError(.insufficientStorage, "the disk is full"))
      #expect(try await server.send(.POST, "/v1/sandboxes/\(id)/fork", json: #"{"count":2}"#).list.count == 1)
      let none = try await server.send(.POST, "/v1/sandboxes/\(id)/fork")
      #expect(none.status == 507 && none.errorCode == "insufficient_storage")
    }
  }

  @Test("ping is 204, and the time-out is set")
  func idle() async throws {
    try await withServer { server async throws -> Void in
      let id = try await server.create()
      #expect(try await server.send(.POST, "/v1/sandboxes/\(id)/ping").status == 204)
      let response = try await server.send(.POST, "/v1/sandboxes/\(id)/timeout", json: #"{"timeout_sec":42}"#)
      #expect(response.status == 200 && response.json["timeout_sec"] as? Int == 42)
      #expect(await server.host.timeouts[try #require(SandboxID(wire: id))] == 42)
    }
  }

  @Test("a paused sandbox with auto_resume serves exec, files, processes and streams")
  func autoResume() async throws {
    try await withServer { server async throws -> Void in
      let id = try await server.create(#"{"auto_resume":true}"#)
      let path = "/v1/sandboxes/\(id)"
      let calls: [() async throws -> LiveServer.TestResponse] = [
        { try await server.send(.POST, path + "/exec", json: #"{"cmd":"echo","args":["hi"]}"#) },
        { try await server.send(.GET, path + "/processes") },
        { try await server.send(.POST, path + "/files/list", json: #"{"path":"/"}"#) },
        {
          try await server.upload(
            path + "/files/write", [("path", ByteBuffer(string: "/f")), ("file", ByteBuffer(string: "x"))])
        },
      ]
      for call in calls {
        #expect(try await server.send(.POST, path + "/pause").status == 200)
        #expect((200...204).contains(try await call().status))
      }
    }
  }

  @Test("a damaged snapshot is 409 with the host's message, and the sandbox stays paused")
  func damaged() async throws {
    try await withServer { server async throws -> Void in
      let id = try await server.create()
      _ = try await server.send(.POST, "/v1/sandboxes/\(id)/pause")
      await server.host.fail(
        .resume, with: MartletError(.snapshotDamaged, "resume the previous generation", cause: SimulatedFault()))
      let response = try await server.send(.POST, "/v1/sandboxes/\(id)/resume")
      #expect(response.status == 409 && response.errorCode == "snapshot_damaged")
      #expect(!response.text.contains("SimulatedFault"))
      #expect(try await server.send(.GET, "/v1/sandboxes/\(id)").json["status"] as? String == "paused")
    }
  }

  @Test("metrics need no key on this machine, and count operations, phases and sandboxes")
  func metrics() async throws {
    try await withServer { server async throws -> Void in
      let id = try await server.create()
      _ = try await server.send(.POST, "/v1/sandboxes/\(id)/pause")
      _ = try await server.send(.POST, "/v1/sandboxes/\(id)/pause")
      await server.host.fail(.create, with: nil)
      let response = try await server.send(.GET, "/metrics", isAuthenticated: false)
      #expect(response.status == 200)
      #expect(response.headers.first(name: "Content-Type") == "text/plain; version=0.0.4; charset=utf-8")
      for line in [
        "# TYPE martlet_phase_duration_seconds histogram",
        "martlet_operations_total{operation=\"create\",outcome=\"ok\"} 1",
        "martlet_operations_total{operation=\"pause\",outcome=\"invalid_state\"} 1",
        "martlet_phase_duration_seconds_bucket{operation=\"pause\",phase=\"freeze\",le=\"0.001\"} 1",
        "martlet_phase_duration_seconds_bucket{operation=\"pause\",phase=\"freeze\",le=\"+Inf\"} 1",
        "martlet_sandboxes{status=\"paused\"} 1", "martlet_sandboxes{status=\"running\"} 0",
      ] {
        #expect(response.text.contains(line + "\n"), "\(line)")
      }
      #expect(!response.text.contains(id))
    }
  }
}
