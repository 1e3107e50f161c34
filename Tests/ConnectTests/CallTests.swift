import AsyncHTTPClient
import Connect
import ConnectClient
import ConnectServer
import NIOCore
import SwiftProtobuf
import Testing

@Suite("calls over loopback", .serialized, .timeLimit(.minutes(1)))
struct CallTests {
  private typealias Text = Google_Protobuf_StringValue
  private typealias Number = Google_Protobuf_Int32Value
  private static let service = DemoServer.service

  @Test("a unary call gets its response", arguments: ConnectCodec.allCases)
  func unary(codec: ConnectCodec) async throws {
    try await DemoServer.run { server in
      let response: Text = try await server.client(codec).unary(Self.service, "Echo", Text("héllo"))
      #expect(response.value == "héllo")
    }
  }

  @Test("every error code of a unary handler reaches the client", arguments: ConnectCode.allCases)
  func unaryError(code: ConnectCode) async throws {
    try await DemoServer.run { server in
      await #expect(throws: ConnectError(code, "as requested")) {
        let _: Text = try await server.client(.proto).unary(Self.service, "Echo", Text(code.rawValue))
      }
    }
  }

  @Test("the text of an unexpected error is not sent to the client")
  func crash() async throws {
    try await DemoServer.run { server in
      await #expect(throws: ConnectError(.internalError, "an internal error occurred")) {
        let _: Text = try await server.client(.json).unary(Self.service, "Echo", Text("crash"))
      }
    }
  }

  @Test("a server stream delivers every message in order", arguments: ConnectCodec.allCases, [0, 1, 1_000])
  func serverStream(codec: ConnectCodec, count: Int32) async throws {
    try await DemoServer.run { server in
      let stream: ConnectResponses<Number> = try await server.client(codec).serverStream(
        Self.service, "Count", Number(count))
      var received: [Int32] = []
      for try await number in stream { received.append(number.value) }
      #expect(received == Array(0..<count))
    }
  }

  @Test("an error at the end of a server stream follows its messages", arguments: ConnectCodec.allCases)
  func serverStreamError(codec: ConnectCodec) async throws {
    try await DemoServer.run { server in
      let stream: ConnectResponses<Number> = try await server.client(codec).serverStream(
        Self.service, "Count", Number(-3))
      var iterator = stream.makeAsyncIterator()
      #expect(try await iterator.next()?.value == 0)
      await #expect(throws: ConnectError(.outOfRange, "cannot count to -3")) { try await iterator.next() }
    }
  }

  @Test("a client stream is read to its end and gets one response", arguments: ConnectCodec.allCases)
  func clientStream(codec: ConnectCodec) async throws {
    try await DemoServer.run { server in
      let parts = AsyncStream { continuation in
        for part in ["a", "b", "c"] { continuation.yield(Text(part)) }
        continuation.finish()
      }
      let response: Text = try await server.client(codec).clientStream(Self.service, "Join", parts)
      #expect(response.value == "abc")
    }
  }

  @Test("the error of a client stream's source is thrown unchanged")
  func clientStreamSourceError() async throws {
    struct Broken: Error {}
    try await DemoServer.run { server in
      let parts = AsyncThrowingStream<Text, any Error> { continuation in
        continuation.yield(Text("a"))
        continuation.finish(throwing: Broken())
      }
      await #expect(throws: Broken.self) {
        let _: Text = try await server.client(.proto).clientStream(Self.service, "Join", parts)
      }
    }
  }

  @Test("the connection of a stream that was read to its end is reused")
  func keepAlive() async throws {
    let httpClient = HTTPClient(eventLoopGroup: HTTPClient.defaultEventLoopGroup, configuration: Self.oneConnection)
    try await DemoServer.run { server in
      let client = ConnectClient(baseURL: server.url, httpClient: httpClient, codec: .proto)
      var ports: Set<String> = []
      for _ in 0..<5 {
        let stream: ConnectResponses<Number> = try await client.serverStream(Self.service, "Count", Number(3))
        for try await _ in stream {}
        let peer: Text = try await client.unary(Self.service, "Peer", Google_Protobuf_Empty())
        ports.insert(peer.value)
      }
      #expect(ports.count == 1)
    }
    try await httpClient.shutdown()
  }

  @Test("a call without a server fails with unavailable")
  func noServer() async throws {
    var configuration = HTTPClient.Configuration()
    configuration.connectionPool.retryConnectionEstablishment = false
    let httpClient = HTTPClient(eventLoopGroup: HTTPClient.defaultEventLoopGroup, configuration: configuration)
    let client = ConnectClient(baseURL: "http://127.0.0.1:1", httpClient: httpClient, codec: .proto)
    let error = await #expect(throws: ConnectError.self) {
      let _: Text = try await client.unary(
        Self.service, "Echo", Text("a"), options: ConnectCallOptions(timeout: .seconds(30)))
    }
    #expect(error?.code == .unavailable)
    try await httpClient.shutdown()
  }

  @Test("a message over the client's limit is refused by the client")
  func clientLimit() async throws {
    try await DemoServer.run { server in
      let options = ConnectCallOptions(maximumMessageBytes: 100)
      let error = await #expect(throws: ConnectError.self) {
        let _: Text = try await server.client(.proto).unary(
          Self.service, "Echo", Text(String(repeating: "x", count: 200)), options: options)
      }
      #expect(error?.code == .resourceExhausted)
    }
  }

  private static var oneConnection: HTTPClient.Configuration {
    HTTPClient.Configuration(
      connectionPool: .init(idleTimeout: .seconds(60), concurrentHTTP1ConnectionsPerHostSoftLimit: 1))
  }
}
