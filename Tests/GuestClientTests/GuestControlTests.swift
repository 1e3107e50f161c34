import AsyncHTTPClient
import Concurrency
import Foundation
import GuestClient
import HostAPI
import Hummingbird
import Logging
import Model
import NIOCore
import NIOPosix
import Testing

@Suite("control of a guest", .serialized, .timeLimit(.minutes(1)))
struct GuestControlTests {
  private final class Flag: Sendable {
    private let value = Mutex(false)

    var isSet: Bool { value.withLock { $0 } }

    func set() { value.withLock { $0 = true } }
  }

  private struct InitBody: Decodable {
    let envVars: [String: String]
    let accessToken: String
    let timestamp: String
    let defaultUser: String
    let defaultWorkdir: String
    let hostname: String
    let sandboxID: String
    let templateID: String
    let entropy: String
  }

  @Test("initialize sends identity, environment, clock and entropy")
  func initialize() async throws {
    try await FakeGuestAgent.run { guest in
      try await guest.client.initialize(
        GuestInitialization(
          environment: ["A": "b"], accessToken: "new", defaultUser: "user", defaultWorkingDirectory: "/work",
          hostname: "h",
          sandboxID: "sb-1", templateID: "base", entropy: [1, 2, 3]))
      let (request, json) = try #require(guest.record.requests.withLock { $0.first })
      #expect(request.uri.path == "/init")
      let body = try JSONDecoder().decode(InitBody.self, from: Data(json.readableBytesView))
      #expect(body.envVars == ["A": "b"])
      #expect(body.accessToken == "new")
      #expect(body.defaultUser == "user" && body.defaultWorkdir == "/work" && body.hostname == "h")
      #expect(body.sandboxID == "sb-1" && body.templateID == "base")
      #expect(body.entropy == "AQID")
      #expect(body.timestamp.wholeMatch(of: /\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z/) != nil, "\(body.timestamp)")
    }
  }

  @Test("freeze has its own route, thaw sets only the clock, metrics are decoded")
  func others() async throws {
    try await FakeGuestAgent.run { guest in
      try await guest.client.freeze()
      try await guest.client.thaw()
      #expect(guest.record.requests.withLock { $0.map(\.0.uri.path) } == ["/freeze", "/init"])
      let thawing = try JSONDecoder().decode(
        [String: String].self, from: guest.record.requests.withLock { Data($0[1].1.readableBytesView) })
      #expect(thawing.keys.sorted() == ["timestamp"])
      let metrics = try await guest.client.metrics()
      #expect(metrics.timestamp == Date(timeIntervalSince1970: 1_700_000_000))
      #expect(metrics.cpuPercent == 12.5)
      #expect(metrics.memoryBytes == 50 && metrics.memoryTotalBytes == 100)
      #expect(metrics.diskBytes == 7 && metrics.diskTotalBytes == 9)
    }
  }

  @Test("waiting for a healthy guest returns at once")
  func healthy() async throws {
    try await FakeGuestAgent.run { guest in
      try await guest.client.waitUntilHealthy(deadline: .now + .seconds(20))
    }
  }

  @Test("waiting for a guest returns when its agent starts to listen")
  func comesUpLater() async throws {
    let isHealthy = Flag()
    let port = try await Self.freePort()
    try await Self.withClient(port: port) { client in
      let waiting = Task {
        try await client.waitUntilHealthy(deadline: .now + .seconds(20))
        isHealthy.set()
      }
      defer { waiting.cancel() }
      try await Task.sleep(for: .milliseconds(300))
      #expect(!isHealthy.isSet)
      let router = Router()
      router.get("/health") { _, _ in Response(status: .noContent) }
      try await serving(router, port: port) { _ in
        #expect(await eventually { isHealthy.isSet })
      }
    }
  }

  @Test("waiting for a guest that refuses or is silent throws agent_error at the deadline", arguments: [true, false])
  func never(refuses: Bool) async throws {
    let silent = try await ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton).bind(
      host: "127.0.0.1", port: 0
    ).get()
    let port = refuses ? try await Self.freePort() : (silent.localAddress?.port ?? 0)
    try await Self.withClient(port: port) { client in
      let start = ContinuousClock.now
      let error = await #expect(throws: MartletError.self) {
        try await client.waitUntilHealthy(deadline: .now + .milliseconds(400))
      }
      #expect(error?.code == .agentError)
      #expect(ContinuousClock.now - start < .seconds(30))
    }
    try await silent.close()
  }

  @Test("waiting for a guest ends when its task is cancelled")
  func cancelledWait() async throws {
    let port = try await Self.freePort()
    try await Self.withClient(port: port) { client in
      let task = Task { try await client.waitUntilHealthy(deadline: .now + .seconds(30)) }
      try await Task.sleep(for: .milliseconds(100))
      task.cancel()
      let error = await #expect(throws: MartletError.self) { try await task.value }
      #expect(error?.code == .canceled)
    }
  }

  @Test("every call to a guest that no longer exists throws agent_error without delay")
  func noGuest() async throws {
    let port = try await Self.freePort()
    try await Self.withClient(port: port) { client in
      let start = ContinuousClock.now
      let calls: [@Sendable () async throws -> Void] = [
        { try await client.freeze() }, { _ = try await client.metrics() }, { _ = try await client.listProcesses() },
        { _ = try await client.readFile("/a", user: nil) }, { _ = try await client.start(.init(command: "a")) },
        { _ = try await client.fileStatus("/a", user: nil) },
      ]
      for call in calls {
        let error = await #expect(throws: MartletError.self) { try await call() }
        #expect(error?.code == .agentError)
      }
      #expect(ContinuousClock.now - start < .seconds(30))
    }
  }

  private static func withClient(port: Int, _ body: (GuestClient) async throws -> Void) async throws {
    let httpClient = GuestClient.makeHTTPClient()
    let client = GuestClient(
      address: "127.0.0.1", port: port, accessToken: nil, httpClient: httpClient, logger: Logger(label: "test"))
    do {
      try await body(client)
    } catch {
      try await httpClient.shutdown()
      throw error
    }
    try await httpClient.shutdown()
  }

  private static func freePort() async throws -> Int {
    let channel = try await ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton).bind(
      host: "127.0.0.1", port: 0
    ).get()
    let port = channel.localAddress?.port ?? 0
    try await channel.close()
    return port
  }
}
