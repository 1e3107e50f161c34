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

  @Test("health answers 204 without a token, whatever the state")
  func health() async throws {
    try await RunningAgent.with(state: GuestState(.init(accessToken: "secret"))) { agent in
      let answer = try await call(agent, .GET, "/health")
      #expect(answer.status == 204)
      #expect(answer.body.isEmpty)
    }
  }

  @Test("initialisation sets the identity, answers the version, and needs the token from then on")
  func initialise() async throws {
    try await RunningAgent.with { agent in
      let body =
        #"{"envVars":{"A":"b"},"accessToken":"t1","defaultUser":"nobody","sandboxID":"sb-1","templateID":"base","timestamp":"2026-11-21T02:52:00Z"}"#
      let answer = try await call(agent, .POST, "/init", body: body)
      #expect(answer.status == 204)
      #expect(answer.version == "0.6.13")
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
        let answer = try await call(agent, .POST, path, body: "{}")
        #expect(answer.status == 401, "\(path)")
        #expect(answer.body.hasPrefix(#"{"code":401,"message":""#), "\(path)")
      }
      #expect(try await call(agent, .POST, "/freeze", token: "secret").status == 204)
      #expect(try await call(agent, .POST, "/unfreeze", token: "secret").status == 204)
    }
  }

  @Test("malformed bodies and unknown routes have the contract's error shape")
  func errors() async throws {
    try await RunningAgent.with { agent in
      for body in ["{", "[]", #"{"envVars":7}"#, #"{"timestamp":"x"}"#] {
        let answer = try await call(agent, .POST, "/init", body: body)
        #expect(answer.status == 400)
        #expect(answer.body.hasPrefix(#"{"code":400,"message":""#))
      }
      let missing = try await call(agent, .GET, "/no/such/route")
      #expect(missing.status == 404)
      #expect(missing.body.hasPrefix(#"{"code":404"#))
    }
  }

  @Test("metrics have the fields of the contract")
  func metrics() async throws {
    try await RunningAgent.with { agent in
      let answer = try await call(agent, .GET, "/metrics")
      #expect(answer.status == 200)
      for field in [
        "ts", "cpu_count", "cpu_used_pct", "mem_total", "mem_used", "mem_cache", "mem_total_mib", "mem_used_mib",
        "disk_used", "disk_total",
      ] {
        #expect(answer.body.contains("\"\(field)\":"), "\(field)")
      }
    }
  }

  @Test("the head of a streamed answer waits for the request, as clients stop sending once they have it")
  func lateHead() async throws {
    try await RunningAgent.with { agent in
      let (parts, body) = AsyncStream<ByteBuffer>.makeStream()
      var request = HTTPClientRequest(url: "http://127.0.0.1:\(agent.port)/process.Process/Start")
      request.method = .POST
      request.headers.add(name: "Content-Type", value: "application/connect+json")
      request.body = .stream(parts, length: .unknown)
      let hasHead = Flag()
      let answer = Task { [request] in
        let response = try await agent.http.execute(request, timeout: .seconds(10))
        hasHead.set()
        return String(buffer: try await response.body.collect(upTo: 65_536))
      }
      try await Task.sleep(for: .milliseconds(200))
      #expect(!hasHead.isSet)
      let message = #"{"process":{"cmd":"/bin/echo","args":["hi"]},"stdin":false}"#
      body.yield(ByteBuffer(bytes: [0, 0, 0, 0, UInt8(message.utf8.count)]))
      body.yield(ByteBuffer(string: message))
      body.finish()
      #expect(try await answer.value.contains(#""stdout":"aGkK""#))
    }
  }

  @Test("a client that goes away before its request is complete leaves nothing behind")
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

private final class Flag: Sendable {
  private let value = Atomic(false)

  var isSet: Bool { value.load(ordering: .relaxed) }

  func set() { value.store(true, ordering: .relaxed) }
}
