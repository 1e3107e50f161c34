import AsyncHTTPClient
import Concurrency
import ConnectClient
import Foundation
import NIOCore
import NIOHTTP1
import Protos
import Testing

@testable import Envd

/// A restored guest keeps its processes and closes the connections of its former clients.
@Suite(.serialized, .timeLimit(.minutes(1))) struct RestoredGuestTests {
  private func initialize(_ agent: RunningAgent, _ body: String) async throws -> Int {
    var request = HTTPClientRequest(url: "http://127.0.0.1:\(agent.port)/init")
    request.method = .POST
    request.body = .bytes(ByteBuffer(string: body))
    request.headers.add(name: "connection", value: "close")
    return Int(try await agent.http.execute(request, timeout: .seconds(10)).status.code)
  }

  @Test("after a restore a stalled subscriber is disconnected and its blocked process continues")
  func stalledSubscriber() async throws {
    try await RunningAgent.with { agent in
      let marker = FileManager.default.temporaryDirectory.appending(path: "martlet-\(UUID().uuidString)")
      defer { try? FileManager.default.removeItem(at: marker) }
      // More than all buffers between the process and a client that does not read can hold.
      let script = "head -c 67108864 /dev/zero; touch \(marker.path); exec sleep 1000"
      let events = try await agent.start("/bin/sh", ["-c", script])
      let process = try #require(agent.agent.registry.running.first)
      try await eventually("the process waits for its subscriber") { process.state.withLock { $0.broadcast.isBlocked } }
      #expect(try await initialize(agent, #"{"newLife":true,"entropy":"AAAA"}"#) == 204)
      try await eventually("the process has no subscribers") { process.subscriberCount == 0 }
      try await eventually("the process has written all of it") { FileManager.default.fileExists(atPath: marker.path) }
      #expect(!process.isOver)
      await #expect(throws: (any Error).self) { for try await _ in events {} }
      // New clients are served.
      var second = try await agent.attach(process.pid).makeAsyncIterator()
      #expect(try await second.next()?.event.start.pid == process.pid)
    }
  }

  @Test("after a restore the subscriber of a silent process is disconnected")
  func idleSubscriber() async throws {
    try await RunningAgent.with { agent in
      let events = try await agent.start("/bin/sleep", ["1000"])
      let process = try #require(agent.agent.registry.running.first)
      #expect(process.subscriberCount == 1)
      #expect(try await initialize(agent, #"{"newLife":true,"entropy":"AAAA"}"#) == 204)
      try await eventually("the process has no subscribers") { process.subscriberCount == 0 }
      #expect(!process.isOver)
      await #expect(throws: (any Error).self) { for try await _ in events {} }
    }
  }

  @Test("an initialization without newLife keeps all streams")
  func withoutNewLife() async throws {
    try await RunningAgent.with { agent in
      // Kept to the end, because releasing the stream would disconnect the client.
      let events = try await agent.start("/bin/sleep", ["1000"])
      let process = try #require(agent.agent.registry.running.first)
      #expect(try await initialize(agent, "{}") == 204)
      #expect(try await initialize(agent, #"{"newLife":false}"#) == 204)
      #expect(process.subscriberCount == 1)
      withExtendedLifetime(events) {}
    }
  }

  @Test("newLife without entropy is refused")
  func withoutEntropy() async throws {
    try await RunningAgent.with { agent in
      let events = try await agent.start("/bin/sleep", ["1000"])
      let process = try #require(agent.agent.registry.running.first)
      #expect(try await initialize(agent, #"{"newLife":true}"#) == 400)
      #expect(process.subscriberCount == 1)
      withExtendedLifetime(events) {}
    }
  }
}
