import Concurrency
import NIOCore
import NIOPosix

/// A TCP connection that sends arbitrary bytes.
final class RawClient: Sendable {
  private let channel: any Channel
  private let received: ReceivedBytes

  private init(channel: any Channel, received: ReceivedBytes) {
    self.channel = channel
    self.received = received
  }

  static func connect(port: Int) async throws -> RawClient {
    let received = ReceivedBytes()
    let channel = try await ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
      .channelInitializer { channel in
        channel.eventLoop.makeCompletedFuture { try channel.pipeline.syncOperations.addHandler(Receiver(received)) }
      }
      .connect(host: "127.0.0.1", port: port).get()
    return RawClient(channel: channel, received: received)
  }

  func send(_ text: String) async throws {
    try await send(Array(text.utf8))
  }

  func send(_ bytes: [UInt8]) async throws {
    try await channel.writeAndFlush(ByteBuffer(bytes: bytes)).get()
  }

  /// Closes the sending direction; the other one stays open.
  func finish() async { try? await channel.close(mode: .output).get() }

  func stopReading() async throws { try await channel.setOption(.autoRead, value: false).get() }

  func close() async { try? await channel.close().get() }

  /// Reads until the server closes the connection.
  func readAll() async throws -> String {
    while await !received.isClosed { try await Task.sleep(for: .milliseconds(5)) }
    return String(decoding: await received.bytes, as: UTF8.self)
  }

  /// Reads until at least `count` bytes have arrived or the connection is closed.
  func read(atLeast count: Int) async throws -> [UInt8] {
    while await received.bytes.count < count, await !received.isClosed { try await Task.sleep(for: .milliseconds(2)) }
    return await received.bytes
  }

  /// Reads the head of a response and leaves the body unread.
  func readHead() async throws -> String {
    while true {
      let (bytes, isClosed) = await (received.bytes, received.isClosed)
      if let end = bytes.indices.first(where: { bytes[$0...].starts(with: [13, 10, 13, 10]) }) {
        await received.drop(end + 4)
        return String(decoding: bytes[..<end], as: UTF8.self)
      }
      if isClosed { return String(decoding: bytes, as: UTF8.self) }
      try await Task.sleep(for: .milliseconds(2))
    }
  }

  /// Reads one unmasked frame of the server; nil if the connection is closed.
  func readFrame() async throws -> (opcode: UInt8, payload: [UInt8])? {
    while true {
      let (bytes, isClosed) = await (received.bytes, received.isClosed)
      if let (frame, length) = Self.frame(bytes) {
        await received.drop(length)
        return frame
      }
      if isClosed { return nil }
      try await Task.sleep(for: .milliseconds(2))
    }
  }

  private static func frame(_ bytes: [UInt8]) -> ((opcode: UInt8, payload: [UInt8]), Int)? {
    guard bytes.count >= 2 else { return nil }
    var start = 2
    var length = Int(bytes[1])
    if length == 126 {
      guard bytes.count >= 4 else { return nil }
      (length, start) = (Int(bytes[2]) << 8 | Int(bytes[3]), 4)
    } else if length == 127 {
      guard bytes.count >= 10 else { return nil }
      (length, start) = (bytes[2..<10].reduce(0) { $0 << 8 | Int($1) }, 10)
    }
    guard bytes.count >= start + length else { return nil }
    return ((bytes[0] & 15, Array(bytes[start..<start + length])), start + length)
  }
}

private actor ReceivedBytes {
  private(set) var bytes: [UInt8] = []
  private(set) var isClosed = false

  func append(_ more: [UInt8]) { bytes += more }
  func drop(_ count: Int) { bytes.removeFirst(count) }
  func close() { isClosed = true }
}

private final class Receiver: ChannelInboundHandler {
  typealias InboundIn = ByteBuffer

  private let events: AsyncStream<[UInt8]>.Continuation

  init(_ received: ReceivedBytes) {
    let (stream, events) = AsyncStream<[UInt8]>.makeStream()
    self.events = events
    Task {
      for await bytes in stream { await received.append(bytes) }
      await received.close()
    }
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    events.yield(Array(unwrapInboundIn(data).readableBytesView))
  }

  func channelInactive(context: ChannelHandlerContext) { events.finish() }

  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    events.finish()
    context.close(promise: nil)
  }
}

/// The connections of a test; closed at its end.
final class RawClients: Sendable {
  private let state = Mutex([RawClient]())

  func connect(_ port: Int) async throws -> RawClient {
    let client = try await RawClient.connect(port: port)
    state.withLock { $0.append(client) }
    return client
  }

  func closeAll() async {
    for client in state.withLock({ $0 }) { await client.close() }
  }
}
