import AsyncHTTPClient
import Concurrency
import Connect
import ConnectClient
import ConnectServer
import Glibc
import NIOCore
import NIOHTTP1
import NIOPosix
import SwiftProtobuf
import Testing

@Suite("deadlines and disconnects", .serialized, .timeLimit(.minutes(1)))
struct LifetimeTests {
  private typealias Text = Google_Protobuf_StringValue
  private static let service = DemoServer.service

  @Test("a client that disconnects cancels an idle handler at once")
  func disconnectWhileIdle() async throws {
    try await DemoServer.run { server in
      let task = Task {
        let stream: ConnectResponses<Text> = try await server.client(.proto).serverStream(
          Self.service, "Idle", Google_Protobuf_Empty())
        for try await _ in stream {}
      }
      #expect(await eventually { server.observations.written.withLock { $0 } == 1 })
      try await Task.sleep(for: .milliseconds(50))
      #expect(server.observations.cancelled.withLock { $0 } == 0)
      task.cancel()
      let start = ContinuousClock.now
      #expect(await eventually { server.observations.cancelled.withLock { $0 } == 1 })
      #expect(ContinuousClock.now - start < .seconds(30))
    }
  }

  @Test("a client that closes its connection right after the request cancels the handler", arguments: [true, false])
  func disconnectAtOnce(resets: Bool) async throws {
    try await DemoServer.run { server in
      let channel = try await ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
        .connect(host: "127.0.0.1", port: server.port).get()
      if resets {
        let socket = try #require(channel as? any SocketOptionProvider)
        try await socket.setSoLinger(linger(l_onoff: 1, l_linger: 0)).get()
      }
      let body = Envelope(payload: ByteBuffer()).encoded()
      var request = ByteBuffer(
        string:
          "POST /demo.Demo/Idle HTTP/1.1\r\nHost: a\r\n"
          + "Content-Type: application/connect+proto\r\nContent-Length: 5\r\n\r\n"
      )
      request.writeImmutableBuffer(body)
      try await channel.writeAndFlush(request).get()
      // A reset that arrives before the request leaves no handler to cancel.
      if resets { #expect(await eventually { server.observations.written.withLock { $0 } == 1 }) }
      try await channel.close().get()
      #expect(await eventually { server.observations.cancelled.withLock { $0 } == 1 })
    }
  }

  @Test("a slow reader slows the handler down")
  func backPressure() async throws {
    try await DemoServer.run { server in
      let stream: ConnectResponses<Google_Protobuf_BytesValue> = try await server.client(.proto)
        .serverStream(Self.service, "Flood", Google_Protobuf_Empty())
      var iterator: ConnectResponses<Google_Protobuf_BytesValue>.AsyncIterator? = stream.makeAsyncIterator()
      _ = try await iterator?.next()
      // The handler blocks once the buffers of both sockets are full, however slowly the machine fills them.
      var before = 0
      #expect(
        await eventually {
          try? await Task.sleep(for: .milliseconds(300))
          defer { before = server.observations.written.withLock { $0 } }
          return before > 0 && server.observations.written.withLock { $0 } == before
        })
      #expect(before < 1_000, "64 KiB messages beyond the buffers of two sockets")
      iterator = nil
    }
  }

  @Test(
    "the deadline of a stream cancels its handler and ends it with deadline_exceeded", arguments: ConnectCodec.allCases)
  func streamDeadline(codec: ConnectCodec) async throws {
    try await DemoServer.run { server in
      let options = ConnectCallOptions(timeout: .seconds(2))
      let stream: ConnectResponses<Text> = try await server.client(codec)
        .serverStream(Self.service, "Idle", Google_Protobuf_Empty(), options: options)
      var iterator = stream.makeAsyncIterator()
      #expect(try await iterator.next()?.value == "first")
      await #expect(throws: ConnectError(.deadlineExceeded, "the call's time-out has passed")) {
        try await iterator.next()
      }
      #expect(server.observations.cancelled.withLock { $0 } == 1)
    }
  }

  @Test("at the deadline of a unary call the server responds with 504")
  func unaryDeadline() async throws {
    try await DemoServer.run { server in
      var request = HTTPClientRequest(url: "\(server.url)/demo.Demo/Echo")
      request.method = .POST
      request.headers = ["content-type": "application/json", "connect-timeout-ms": "100"]
      request.body = .bytes(ByteBuffer(string: "\"sleep\""))
      let response = try await HTTPClient.shared.execute(request, timeout: .seconds(10))
      #expect(response.status == .gatewayTimeout)
      let body = try await response.body.collect(upTo: 1_024)
      #expect(ConnectError(body: body, httpStatus: 504).code == .deadlineExceeded)
    }
  }

  @Test("the handler's context has the deadline")
  func deadlineInContext() async throws {
    try await DemoServer.run { server in
      let client = server.client(.proto)
      let without: Text = try await client.unary(Self.service, "Echo", Text("deadline"))
      let with: Text = try await client.unary(
        Self.service, "Echo", Text("deadline"), options: ConnectCallOptions(timeout: .seconds(5)))
      #expect(without.value == "none")
      #expect(with.value == "some")
    }
  }

  @Test("the head of a streamed response is sent with its first frame, because some clients stop sending after it")
  func lateHead() async throws {
    try await DemoServer.run { server in
      let response = Mutex("")
      let channel = try await ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
        .channelInitializer { $0.pipeline.addHandler(Reader { text in response.withLock { $0 += text } }) }
        .connect(host: "127.0.0.1", port: server.port).get()
      let head =
        "POST /demo.Demo/Join HTTP/1.1\r\nHost: a\r\n"
        + "Content-Type: application/connect+json\r\nTransfer-Encoding: chunked\r\n\r\n"
      try await channel.writeAndFlush(ByteBuffer(string: head + Self.chunk("\"first \""))).get()
      #expect(await eventually { server.observations.received.withLock { $0 } == 1 })
      // Without the delay the head would be on its way by now; another exchange gives it the time to arrive.
      let _: Text = try await server.client(.proto).unary(Self.service, "Echo", Text("x"))
      #expect(response.withLock { $0 }.isEmpty)
      try await channel.writeAndFlush(ByteBuffer(string: Self.chunk("\"second\"") + "0\r\n\r\n")).get()
      #expect(await eventually { response.withLock { $0.contains("\"first second\"") } })
      #expect(response.withLock { $0 }.hasPrefix("HTTP/1.1 200 OK"))
      try await channel.close().get()
    }
  }

  private static func chunk(_ message: String) -> String {
    let frame = Envelope(payload: ByteBuffer(string: message)).encoded()
    return String(frame.readableBytes, radix: 16) + "\r\n" + String(buffer: frame) + "\r\n"
  }
}

/// Passes received bytes on as text.
private final class Reader: ChannelInboundHandler, Sendable {
  typealias InboundIn = ByteBuffer

  private let receive: @Sendable (String) -> Void

  init(_ receive: @escaping @Sendable (String) -> Void) {
    self.receive = receive
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    receive(String(buffer: unwrapInboundIn(data)))
  }
}
