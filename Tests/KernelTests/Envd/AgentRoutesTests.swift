import AsyncHTTPClient
import Envd
import FoundationEssentials
import NIOCore
import NIOHTTP1
import Testing

import struct Synchronization.Atomic

@Suite(.serialized, .timeLimit(.minutes(1))) struct AgentRoutesTests {
  private func call(
    _ agent: RunningAgent, _ method: HTTPMethod, _ path: String, body: String? = nil, token: String? = nil
  ) async throws -> (status: Int, body: String, version: String?) {
    var request = HTTPClientRequest(url: "http://127.0.0.1:\(agent.port)\(path)")
    request.method = method
    if let body { request.body = .bytes(ByteBuffer(string: body)) }
    if let token { request.headers.add(name: "X-Access-Token", value: token) }
    let response = try await agent.http.execute(request, timeout: .seconds(10))
    let text = String(buffer: try await response.body.collect(upTo: 1_048_576))
    return (Int(response.status.code), text, response.headers.first(name: "X-Envd-Version"))
  }

  @Test("health responds with 204 and needs no token")
  func health() async throws {
    try await RunningAgent.with(state: GuestState(.init(accessToken: "secret"))) { agent in
      let response = try await call(agent, .GET, "/health")
      #expect(response.status == 204)
      #expect(response.body.isEmpty)
    }
  }

  @Test("initialization sets the identity, reports the version, and afterwards needs the token")
  func initialize() async throws {
    try await RunningAgent.with { agent in
      let body =
        #"{"envVars":{"A":"b"},"accessToken":"t1","defaultUser":"nobody","sandboxID":"sb-1","#
        + #""templateID":"base","timestamp":"2026-11-21T02:52:00Z"}"#
      let response = try await call(agent, .POST, "/init", body: body)
      #expect(response.status == 204)
      #expect(response.version == "0.6.13")
      #expect(agent.agent.state.defaultUser == "nobody")

      #expect(try await call(agent, .GET, "/envs").status == 401)
      let variables = try await call(agent, .GET, "/envs", token: "t1")
      #expect(variables.body == #"{"A":"b","E2B_SANDBOX":"true","E2B_SANDBOX_ID":"sb-1","E2B_TEMPLATE_ID":"base"}"#)

      #expect(try await call(agent, .POST, "/init", body: #"{"accessToken":"t2"}"#).status == 401)
      #expect(agent.agent.state.accessToken == "t1")
      #expect(try await call(agent, .POST, "/init", body: #"{"accessToken":"t1"}"#).status == 204)
      #expect(try await call(agent, .POST, "/init", body: #"{"accessToken":"t2"}"#, token: "t1").status == 204)
      #expect(try await call(agent, .GET, "/envs", token: "t1").status == 401)
      #expect(try await call(agent, .GET, "/envs", token: "t2").status == 200)
    }
  }

  @Test("the RPCs and the control routes need the token")
  func token() async throws {
    try await RunningAgent.with(state: GuestState(.init(accessToken: "secret"))) { agent in
      for path in ["/process.Process/List", "/freeze", "/unfreeze"] {
        let response = try await call(agent, .POST, path, body: "{}")
        #expect(response.status == 401, "\(path)")
        #expect(response.body.hasPrefix(#"{"code":401,"message":""#), "\(path)")
      }
      #expect(try await call(agent, .POST, "/freeze", token: "secret").status == 204)
      #expect(try await call(agent, .POST, "/unfreeze", token: "secret").status == 204)
    }
  }

  @Test("malformed bodies and unknown routes get errors in the contract's format")
  func errors() async throws {
    try await RunningAgent.with { agent in
      for body in ["{", "[]", #"{"envVars":7}"#, #"{"timestamp":"x"}"#] {
        let response = try await call(agent, .POST, "/init", body: body)
        #expect(response.status == 400)
        #expect(response.body.hasPrefix(#"{"code":400,"message":""#))
      }
      let missing = try await call(agent, .GET, "/no/such/route")
      #expect(missing.status == 404)
      #expect(missing.body.hasPrefix(#"{"code":404"#))
    }
  }

  @Test("metrics have the fields of the contract")
  func metrics() async throws {
    try await RunningAgent.with { agent in
      let response = try await call(agent, .GET, "/metrics")
      #expect(response.status == 200)
      for field in [
        "ts", "cpu_count", "cpu_used_pct", "mem_total", "mem_used", "mem_cache", "mem_total_mib", "mem_used_mib",
        "disk_used", "disk_total",
      ] {
        #expect(response.body.contains("\"\(field)\":"), "\(field)")
      }
    }
  }

  @Test("the head of a streamed response waits for the request, because clients stop sending after it")
  func lateHead() async throws {
    try await RunningAgent.with { agent in
      let (parts, body) = AsyncStream<ByteBuffer>.makeStream()
      var request = HTTPClientRequest(url: "http://127.0.0.1:\(agent.port)/process.Process/Start")
      request.method = .POST
      request.headers.add(name: "Content-Type", value: "application/connect+json")
      request.body = .stream(parts, length: .unknown)
      let hasHead = AtomicFlag()
      let response = Task { [request] in
        let head = try await agent.http.execute(request, timeout: .seconds(10))
        hasHead.set()
        return String(buffer: try await head.body.collect(upTo: 65_536))
      }
      try await Task.sleep(for: .milliseconds(200))
      #expect(!hasHead.isSet)
      let message = #"{"process":{"cmd":"/bin/echo","args":["hi"]},"stdin":false}"#
      body.yield(ByteBuffer(bytes: [0, 0, 0, 0, UInt8(message.utf8.count)]))
      body.yield(ByteBuffer(string: message))
      body.finish()
      #expect(try await response.value.contains(#""stdout":"aGkK""#))
    }
  }

  @Test("a client that disconnects within its request leaves no process and no descriptor")
  func incompleteRequest() async throws {
    try await RunningAgent.with { agent in
      _ = try await agent.run("/bin/true")
      let before = try openDescriptors()
      for _ in 0..<10 {
        var request = HTTPClientRequest(url: "http://127.0.0.1:\(agent.port)/process.Process/Start")
        request.method = .POST
        request.headers.add(name: "Content-Type", value: "application/connect+json")
        let (parts, _) = AsyncStream<ByteBuffer>.makeStream()
        request.body = .stream(parts, length: .unknown)
        await #expect(throws: (any Error).self) { try await agent.http.execute(request, timeout: .milliseconds(50)) }
      }
      try await eventually("the connections are closed") { try openDescriptors() <= before }
      #expect(agent.agent.registry.running.isEmpty)
    }
  }
}

private final class AtomicFlag: Sendable {
  private let value = Atomic(false)

  var isSet: Bool { value.load(ordering: .relaxed) }

  func set() { value.store(true, ordering: .relaxed) }
}
