import Concurrency
import FakeServer
import Model
import NIOCore
import NIOHTTP1
import Testing

@testable import APIClient

@Suite("Calls", .timeLimit(.minutes(1)))
struct SandboxCallTests {
  private func withClient<Result: Sendable>(
    _ server: FakeMartlet, key: String = FakeMartlet.apiKey,
    _ body: @escaping @Sendable (APIClient) async throws -> Result
  ) async throws -> Result {
    try await server.serving { url in
      try await APIClient.withClient(ClientCredentials(endpoint: try Endpoint(url), apiKey: key), body)
    }
  }

  /// Runs a client against a server that sends the same response to every request.
  private func answered(_ status: HTTPResponseStatus, _ text: String) async throws -> SandboxResource {
    try await FakeServer.serving(requests: { exchange in
      _ = try await exchange.body()
      try await exchange.respond(status, text)
    }) { server in
      try await APIClient.withClient(ClientCredentials(endpoint: try Endpoint(server.url), apiKey: "k")) { client in
        try await client.sandbox(SandboxID())
      }
    }
  }

  @Test("a sandbox is created, found, listed and destroyed")
  func lifecycle() async throws {
    let server = FakeMartlet()
    try await withClient(server) { client in
      let sandbox = try await client.createSandbox(SandboxRequest(template: "minimal"))
      #expect(sandbox.status == "running")
      #expect(try await client.sandbox(sandbox.id) == sandbox)
      #expect(try await client.listSandboxes() == [sandbox])
      try await client.destroySandbox(sandbox.id)
      #expect(try await client.listSandboxes().isEmpty)
    }
  }

  @Test("all pages of a list are read")
  func paging() async throws {
    let server = FakeMartlet()
    let ids = (0..<7).map { _ in server.addSandbox() }
    let listed = try await withClient(server) { try await $0.listSandboxes().map(\.id.wire) }
    #expect(listed == ids)
  }

  @Test("an id may be given without `sb-`, or as a prefix")
  func resolve() async throws {
    let server = FakeMartlet()
    let first = server.addSandbox("sb-aaaa1111-0000-4000-8000-000000000001")
    _ = server.addSandbox("sb-aaaa2222-0000-4000-8000-000000000002")
    try await withClient(server) { client in
      for text in ["aaaa1", "sb-aaaa1", String(first.dropFirst(3))] {
        let resolved = try await client.resolveSandbox(text)
        #expect(resolved.wire == first)
      }
      for text in ["aaaa", "bbbb", "aaa", "../../etc", ""] {
        await #expect(throws: APIError.self) { try await client.resolveSandbox(text) }
      }
    }
  }

  @Test("a full id needs no request")
  func resolveLocally() async throws {
    let server = FakeMartlet()
    let id = SandboxID()
    #expect(try await withClient(server) { try await $0.resolveSandbox(id.wire) } == id)
    #expect(server.state.withLock { $0.requests }.isEmpty)
  }

  @Test("a wrong key is unauthorized")
  func wrongKey() async throws {
    let error = await #expect(throws: APIError.self) {
      try await withClient(FakeMartlet(), key: "wrong") { try await $0.listSandboxes() }
    }
    #expect(error == APIError(code: "unauthorized", message: "the API key is not valid", status: 401))
    #expect(error?.exitCode == 77)
  }

  @Test("without a listening server the error is immediate")
  func nobodyListens() async throws {
    let port = try await FakeServer.serving(requests: { _ in }) { $0.port }
    let start = ContinuousClock.now
    let endpoint = try Endpoint("127.0.0.1:\(port)")
    let calls: [@Sendable (APIClient) async throws -> Void] = [
      { _ = try await $0.listSandboxes() },
      { try await $0.withExec(ExecStart(command: "ls"), in: SandboxID()) { _ in } },
    ]
    for call in calls {
      let error = await #expect(throws: APIError.self) {
        try await APIClient.withClient(ClientCredentials(endpoint: endpoint, apiKey: "k")) { try await call($0) }
      }
      #expect(error?.localCode == .unreachable)
      #expect(error?.message.contains("martlet up") == true)
    }
    #expect(start.duration(to: .now) < .seconds(30))
  }

  @Test(
    "the message about a foreign error response has only its status",
    arguments: [(502, "<html>Bad Gateway</html>"), (404, ""), (500, "{}"), (302, "moved")])
  func foreignAnswers(_ status: Int, _ text: String) async throws {
    let error = await #expect(throws: APIError.self) {
      try await answered(HTTPResponseStatus(statusCode: status), text)
    }
    #expect(error?.status == status)
    #expect(error?.message.contains("html") == false)
  }

  @Test(
    "a success with a foreign body is an error",
    arguments: ["", "[]", "{\"id\":7}", "{\"id\":\"sb-x\",\"status\":\"running\"}"])
  func badBody(_ text: String) async throws {
    let error = await #expect(throws: APIError.self) { try await answered(.ok, text) }
    #expect(error?.localCode == .badResponse)
  }

  @Test("every local code has an exit code and differs from the server's codes")
  func localCodes() {
    for code in APIError.LocalCode.allCases {
      #expect(APIError(code, "").exitCode > 0)
      #expect(ErrorCode(rawValue: code.rawValue) == nil)
    }
  }
}
