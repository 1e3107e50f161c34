import Foundation
import HostAPI
import Model
import NIOCore
import NIOHTTP1
import TestSupport
import Testing

@Suite(.serialized) struct ProcessRouteTests {
  @Test("exec returns output, exit code and duration")
  func exec() async throws {
    try await withServer { server async throws -> Void in
      let id = try await server.create()
      let response = try await server.send(.POST, "/v1/sandboxes/\(id)/exec", json: #"{"cmd":"echo","args":["a","b"]}"#)
      #expect(response.status == 200)
      #expect(response.json["stdout"] as? String == "a b\n")
      #expect(response.json["stderr"] as? String == "")
      #expect(response.json["exit_code"] as? Int == 0)
      #expect(response.json["sandbox_id"] as? String == id)
      #expect(response.json["duration_ms"] is Int)
      #expect(response.json["encoding"] == nil)
      #expect(
        try await server.send(.POST, "/v1/sandboxes/\(id)/exec", json: #"{"cmd":"exit","args":["7"]}"#).json[
          "exit_code"] as? Int == 7)
    }
  }

  @Test("exec returns all 256 byte values, as base64")
  func bytes() async throws {
    try await withServer { server async throws -> Void in
      let id = try await server.create()
      let response = try await server.send(.POST, "/v1/sandboxes/\(id)/exec", json: #"{"cmd":"bytes"}"#)
      #expect(response.json["encoding"] as? String == "base64")
      let output = try #require(Data(base64Encoded: response.json["stdout"] as? String ?? ""))
      #expect(Array(output) == Array(UInt8.min...UInt8.max))
    }
  }

  @Test(
    "invalid exec requests are 400",
    arguments: [
      "{}", #"{"cmd":""}"#, #"{"cmd":5}"#, #"{"cmd":"a","args":"b"}"#, #"{"cmd":"a","timeout_sec":-1}"#,
      #"{"cmd":"a","timeout_sec":100000}"#, #"{"cmd":"a\u0000"}"#, #"{"cmd":"a","cwd":""}"#,
      #"{"cmd":"a","arg":["b"]}"#,
      #"{"cmd":"a","background":"yes"}"#, #"{"cmd":"a","background":true,"tag":""}"#,
    ])
  func badRequests(body: String) async throws {
    try await withServer { server async throws -> Void in
      let id = try await server.create()
      #expect(try await server.send(.POST, "/v1/sandboxes/\(id)/exec", json: body).status == 400)
    }
  }

  @Test("too much output is 413 with a message that names exec/stream, a time-out is 504")
  func limits() async throws {
    try await withServer { server async throws -> Void in
      let id = try await server.create()
      let flood = try await server.send(.POST, "/v1/sandboxes/\(id)/exec", json: #"{"cmd":"flood"}"#)
      #expect(flood.status == 413)
      #expect(flood.errorMessage?.contains("exec/stream") == true)
      let late = try await server.send(.POST, "/v1/sandboxes/\(id)/exec", json: #"{"cmd":"late","timeout_sec":1}"#)
      #expect(late.status == 504)
      #expect(late.errorCode == "deadline_exceeded")
    }
  }

  @Test("a background process is started with 202, listed, signalled, and then absent")
  func background() async throws {
    try await withServer { server async throws -> Void in
      let id = try await server.create()
      let started = try await server.send(
        .POST, "/v1/sandboxes/\(id)/exec", json: #"{"cmd":"sleep","background":true,"tag":"my job"}"#)
      #expect(started.status == 202)
      let pid = try #require(started.json["pid"] as? Int)
      #expect(started.json["tag"] as? String == "my job")
      let list = try await server.send(.GET, "/v1/sandboxes/\(id)/processes").list
      #expect(list.compactMap { $0["pid"] as? Int } == [pid])
      #expect(try await server.send(.DELETE, "/v1/sandboxes/\(id)/processes/my%20job?signal=SIGUSR1").status == 204)
      let sandbox = try #require(SandboxID(wire: id))
      #expect(await server.host.process(.pid(UInt32(pid)), in: sandbox)?.signals == [10])
      #expect(try await server.send(.DELETE, "/v1/sandboxes/\(id)/processes/\(pid)").status == 204)
      #expect(try await server.send(.GET, "/v1/sandboxes/\(id)/processes").list.isEmpty)
      #expect(try await server.send(.DELETE, "/v1/sandboxes/\(id)/processes/\(pid)").status == 404)
      for bad in ["0", "99999999999", "1?signal=NOPE", "1?signal=0", "1?signal=65"] {
        #expect(try await server.send(.DELETE, "/v1/sandboxes/\(id)/processes/\(bad)").status == 400, "\(bad)")
      }
    }
  }

  @Test("a client that disconnects during exec kills its process")
  func clientGone() async throws {
    try await withServer { server async throws -> Void in
      let id = try await server.create()
      let sandbox = try #require(SandboxID(wire: id))
      let body = #"{"cmd":"sleep","timeout_sec":0}"#
      let client = try await server.clients.connect(server.port)
      try await client.send(
        "POST /v1/sandboxes/\(id)/exec HTTP/1.1\r\nHost: localhost\r\nX-API-Key: \(server.key)\r\n"
          + "Content-Length: \(body.utf8.count)\r\n\r\n\(body)"
      )
      #expect(try await eventually { await server.host.processes[sandbox]?.isEmpty == false })
      await client.close()
      #expect(try await eventually { await server.host.processes[sandbox]?.allSatisfy { !$0.isAlive } == true })
    }
  }

  @Test("exec in a sandbox that does not run is 409")
  func wrongState() async throws {
    try await withServer { server async throws -> Void in
      let id = try await server.create()
      _ = try await server.send(.DELETE, "/v1/sandboxes/\(id)")
      let response = try await server.send(.POST, "/v1/sandboxes/\(id)/exec", json: #"{"cmd":"echo"}"#)
      #expect(response.status == 409)
      #expect(response.errorCode == "invalid_state")
    }
  }
}
