package import NIOCore
package import NIOHTTP1
import NIOPosix
package import NIOWebSocket

/// A small HTTP and WebSocket server on a loopback port. Each test writes its responses, including broken ones.
package struct FakeServer: Sendable {
  package typealias RequestHandler = @Sendable (FakeExchange) async throws -> Void
  package typealias SocketHandler = @Sendable (HTTPRequestHead, FakeSocket) async throws -> Void

  typealias HTTPChannel = NIOAsyncChannel<HTTPServerRequestPart, HTTPPart<HTTPResponseHead, ByteBuffer>>
  typealias SocketChannel = NIOAsyncChannel<WebSocketFrame, WebSocketFrame>

  private enum Connection: Sendable {
    case http(HTTPChannel)
    case socket(SocketChannel, HTTPRequestHead)
  }

  package let port: Int
  package var url: String { "http://127.0.0.1:\(port)" }

  /// Serves while `body` runs. Requests for which `upgrades` returns true become WebSockets; without it none do.
  package static func serving<Result: Sendable>(
    requests: @escaping RequestHandler, upgrades: (@Sendable (HTTPRequestHead) -> Bool)? = nil,
    sockets: @escaping SocketHandler = { _, _ in }, _ body: @escaping @Sendable (FakeServer) async throws -> Result
  ) async throws -> Result {
    let listener = try await ServerBootstrap(group: .singletonMultiThreadedEventLoopGroup)
      .bind(host: "127.0.0.1", port: 0) { channel in
        channel.eventLoop.makeCompletedFuture { try configure(channel, upgrades: upgrades) }
      }
    let port = listener.channel.localAddress?.port ?? 0
    return try await withThrowingTaskGroup(of: Result?.self) { group in
      group.addTask {
        try await listener.executeThenClose { connections in
          try await withThrowingDiscardingTaskGroup { tasks in
            for try await connection in connections {
              // A connection that a test has broken on purpose is not a failure of the server.
              tasks.addTask { try? await serve(connection.get(), requests: requests, sockets: sockets) }
            }
          }
        }
        return nil
      }
      group.addTask { try await body(FakeServer(port: port)) }
      defer { group.cancelAll() }
      while let result = try await group.next() {
        if let result { return result }
      }
      throw CancellationError()
    }
  }

  private static func configure(
    _ channel: any Channel, upgrades: (@Sendable (HTTPRequestHead) -> Bool)?
  ) throws -> EventLoopFuture<Connection> {
    guard let upgrades else {
      try channel.pipeline.syncOperations.configureHTTPServerPipeline()
      try channel.pipeline.syncOperations.addHandler(ResponsePartAdapter())
      return channel.eventLoop.makeSucceededFuture(.http(try HTTPChannel(wrappingChannelSynchronously: channel)))
    }
    let upgrader = NIOTypedWebSocketServerUpgrader<Connection>(
      maxFrameSize: 1 << 20,
      shouldUpgrade: { channel, head in channel.eventLoop.makeSucceededFuture(upgrades(head) ? [:] : nil) },
      upgradePipelineHandler: { channel, head in
        channel.eventLoop.makeCompletedFuture {
          .socket(try SocketChannel(wrappingChannelSynchronously: channel), head)
        }
      })
    let configuration = NIOUpgradableHTTPServerPipelineConfiguration<Connection>(
      upgradeConfiguration: .init(upgraders: [upgrader]) { channel in
        channel.eventLoop.makeCompletedFuture {
          try channel.pipeline.syncOperations.addHandler(ResponsePartAdapter())
          return .http(try HTTPChannel(wrappingChannelSynchronously: channel))
        }
      })
    return try channel.pipeline.syncOperations.configureUpgradableHTTPServerPipeline(configuration: configuration)
  }

  private static func serve(_ connection: Connection, requests: RequestHandler, sockets: SocketHandler) async throws {
    switch connection {
    case .socket(let channel, let head):
      try await channel.executeThenClose { inbound, outbound in
        try await sockets(
          head, FakeSocket(channel: channel.channel, inbound: inbound.makeAsyncIterator(), outbound: outbound))
      }
    case .http(let channel):
      try await channel.executeThenClose { inbound, outbound in
        var parts = inbound.makeAsyncIterator()
        while case .head(let head)? = try await parts.next() {
          let exchange = FakeExchange(head: head, channel: channel.channel, inbound: parts, outbound: outbound)
          try await requests(exchange)
          parts = exchange.inbound
          guard channel.channel.isActive else { return }
        }
      }
    }
  }
}

/// One request and the methods to respond to it.
package final class FakeExchange {
  package let head: HTTPRequestHead
  private let channel: any Channel
  var inbound: NIOAsyncChannelInboundStream<HTTPServerRequestPart>.AsyncIterator
  private let outbound: NIOAsyncChannelOutboundWriter<HTTPPart<HTTPResponseHead, ByteBuffer>>

  init(
    head: HTTPRequestHead, channel: any Channel,
    inbound: NIOAsyncChannelInboundStream<HTTPServerRequestPart>.AsyncIterator,
    outbound: NIOAsyncChannelOutboundWriter<HTTPPart<HTTPResponseHead, ByteBuffer>>
  ) {
    self.head = head
    self.channel = channel
    self.inbound = inbound
    self.outbound = outbound
  }

  package var path: String { String(head.uri.prefix { $0 != "?" }) }

  /// The rest of the request; nil when the connection broke before its end.
  package func body() async throws -> ByteBuffer? {
    var body = ByteBuffer()
    while let part = try await inbound.next() {
      switch part {
      case .head: return nil
      case .body(var bytes): body.writeBuffer(&bytes)
      case .end: return body
      }
    }
    return nil
  }

  package func respond(_ status: HTTPResponseStatus, _ text: String = "", headers: HTTPHeaders = [:]) async throws {
    try await respond(status, bytes: ByteBuffer(string: text), headers: headers)
  }

  package func respond(_ status: HTTPResponseStatus, bytes: ByteBuffer, headers: HTTPHeaders = [:]) async throws {
    var headers = headers
    if status != .noContent { headers.replaceOrAdd(name: "Content-Length", value: "\(bytes.readableBytes)") }
    try await begin(status, headers: headers)
    if bytes.readableBytes > 0 { try await write(bytes) }
    try await end()
  }

  package func begin(_ status: HTTPResponseStatus, headers: HTTPHeaders = [:]) async throws {
    try await outbound.write(.head(HTTPResponseHead(version: .http1_1, status: status, headers: headers)))
  }

  package func write(_ bytes: ByteBuffer) async throws { try await outbound.write(.body(bytes)) }
  package func end() async throws { try await outbound.write(.end(nil)) }

  /// Breaks the connection at once.
  package func abort() async throws { try await channel.close() }
}

/// One WebSocket connection at the level of frames.
package final class FakeSocket {
  private let channel: any Channel
  private var inbound: NIOAsyncChannelInboundStream<WebSocketFrame>.AsyncIterator
  private let outbound: NIOAsyncChannelOutboundWriter<WebSocketFrame>

  init(
    channel: any Channel, inbound: NIOAsyncChannelInboundStream<WebSocketFrame>.AsyncIterator,
    outbound: NIOAsyncChannelOutboundWriter<WebSocketFrame>
  ) {
    self.channel = channel
    self.inbound = inbound
    self.outbound = outbound
  }

  package func next() async throws -> WebSocketFrame? { try await inbound.next() }

  /// The next text, binary or close frame. Never replies by itself.
  package func nextData() async throws -> WebSocketFrame? {
    while let frame = try await inbound.next() {
      if frame.opcode != .ping, frame.opcode != .pong { return frame }
    }
    return nil
  }

  package func send(_ frame: WebSocketFrame) async throws { try await outbound.write(frame) }

  package func send(_ text: String) async throws {
    try await send(WebSocketFrame(fin: true, opcode: .text, data: ByteBuffer(string: text)))
  }

  package func send(_ bytes: [UInt8]) async throws {
    try await send(WebSocketFrame(fin: true, opcode: .binary, data: ByteBuffer(bytes: bytes)))
  }

  /// Sends a close frame and waits for the client's.
  package func close(code: UInt16) async throws {
    var payload = ByteBuffer()
    payload.writeInteger(code)
    try await send(WebSocketFrame(fin: true, opcode: .connectionClose, data: payload))
    while let frame = try await inbound.next(), frame.opcode != .connectionClose {}
  }

  /// Breaks the connection without a close frame.
  package func abort() async throws { try await channel.close() }
}

/// Lets the async channel write `ByteBuffer` bodies.
private final class ResponsePartAdapter: ChannelOutboundHandler {
  typealias OutboundIn = HTTPPart<HTTPResponseHead, ByteBuffer>
  typealias OutboundOut = HTTPServerResponsePart

  func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
    let part: HTTPServerResponsePart =
      switch unwrapOutboundIn(data) {
      case .head(let head): .head(head)
      case .body(let bytes): .body(.byteBuffer(bytes))
      case .end(let trailers): .end(trailers)
      }
    context.write(wrapOutboundOut(part), promise: promise)
  }
}
