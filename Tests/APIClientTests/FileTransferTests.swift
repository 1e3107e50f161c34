import Concurrency
import FakeServer
import Model
import NIOCore
import Testing

@testable import APIClient

@Suite("File transfer", .timeLimit(.minutes(1)))
struct FileTransferTests {
  private static let content = (0..<1_000_000).map { UInt8(truncatingIfNeeded: $0 &* 7) }

  private func withClient<Result: Sendable>(
    _ server: FakeMartlet, _ body: @escaping @Sendable (APIClient, SandboxID) async throws -> Result
  ) async throws -> Result {
    let id = try #require(SandboxID(wire: server.addSandbox()))
    return try await server.serving { url in
      try await APIClient.withClient(ClientCredentials(endpoint: try Endpoint(url), apiKey: FakeMartlet.apiKey)) {
        client in
        try await body(client, id)
      }
    }
  }

  /// Yields the content in chunks of an odd size.
  private static func pieces(_ bytes: [UInt8]) -> AsyncStream<ByteBuffer> {
    AsyncStream { continuation in
      for start in stride(from: 0, to: bytes.count, by: 77_777) {
        continuation.yield(ByteBuffer(bytes: bytes[start..<min(start + 77_777, bytes.count)]))
      }
      continuation.finish()
    }
  }

  @Test("an upload arrives unchanged, with and without a known size", arguments: [true, false])
  func upload(_ isSizeKnown: Bool) async throws {
    let server = FakeMartlet()
    try await withClient(server) { client, id in
      let source = Self.pieces(Self.content)
      try await client.upload(
        source, sizeBytes: isSizeKnown ? Int64(Self.content.count) : nil, to: "/tmp/a b\"c", in: id)
    }
    #expect(server.state.withLock { $0.files["/tmp/a b\"c"]?.bytes } == Self.content)
  }

  @Test("an empty file is uploaded")
  func empty() async throws {
    let server = FakeMartlet()
    try await withClient(server) { client, id in
      try await client.upload(Self.pieces([]), sizeBytes: 0, to: "/empty", in: id)
    }
    #expect(server.state.withLock { $0.files["/empty"]?.bytes } == [])
  }

  @Test("a source that changes its size is an error and stores nothing", arguments: [-1, 1])
  func changedSource(_ difference: Int) async throws {
    let server = FakeMartlet()
    let error = await #expect(throws: APIError.self) {
      try await withClient(server) { client, id in
        try await client.upload(
          Self.pieces(Self.content), sizeBytes: Int64(Self.content.count + difference), to: "/f", in: id)
      }
    }
    #expect(error?.localCode == .truncated)
    #expect(server.state.withLock { $0.files["/f"] } == nil)
  }

  @Test("a download arrives unchanged")
  func download() async throws {
    let server = FakeMartlet()
    server.state.withLock { $0.files["/f"] = .init(bytes: Self.content) }
    let received = Mutex<[UInt8]>([])
    let collected = try await withClient(server) { client, id in
      let count = try await client.download("/f", in: id) { chunk in received.withLock { $0 += chunk.readableBytesView }
      }
      return count
    }
    #expect(collected == Int64(Self.content.count))
    #expect(received.withLock { $0 } == Self.content)
  }

  @Test("a download that ends early is an error, never a shorter file", arguments: [0, 1, 500_000])
  func truncated(_ limit: Int) async throws {
    let server = FakeMartlet()
    server.state.withLock {
      $0.files["/f"] = .init(bytes: Self.content)
      $0.truncatesDownloadsAfter = limit
    }
    let error = await #expect(throws: APIError.self) {
      try await withClient(server) { client, id in _ = try await client.download("/f", in: id) { _ in } }
    }
    #expect(error?.localCode == .connectionLost || error?.localCode == .truncated)
  }

  @Test("a missing file is the server's error")
  func missing() async throws {
    let error = await #expect(throws: APIError.self) {
      try await withClient(FakeMartlet()) { client, id in _ = try await client.download("/nope", in: id) { _ in } }
    }
    #expect(error?.errorCode == .notFound)
    #expect(error?.exitCode == 66)
  }

  @Test("an error of the consumer ends the download and is thrown unchanged")
  func consumerFails() async throws {
    struct DiskFull: Error {}
    let server = FakeMartlet()
    server.state.withLock { $0.files["/f"] = .init(bytes: Self.content) }
    await #expect(throws: DiskFull.self) {
      try await withClient(server) { client, id in _ = try await client.download("/f", in: id) { _ in throw DiskFull() }
      }
    }
  }

  @Test("a transfer without progress ends with timed_out")
  func stall() async throws {
    let error = await #expect(throws: APIError.self) {
      try await StallWatch.run(limit: .milliseconds(50)) { watch in
        try await watch.waiting { try await Task.sleep(for: .seconds(30)) }
      }
    }
    #expect(error?.localCode == .timedOut)
  }

  @Test("a slow source does not count as a stall")
  func slowSource() async throws {
    let result = try await StallWatch.run(limit: .milliseconds(50)) { watch in
      watch.begin()
      watch.end()
      try await Task.sleep(for: .milliseconds(200))
      return 5
    }
    #expect(result == 5)
  }
}
