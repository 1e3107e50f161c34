import NIOCore
import NIOHTTP1
package import NIOPosix
import NIOWebSocket

extension ClientWebSocket {
  private typealias MessageChannel = NIOAsyncChannel<Event, Command>

  private enum UpgradeResponse: Sendable {
    case upgraded(MessageChannel)
    case refused(EventLoopFuture<ClientWebSocketError>)
  }

  /// Connects, runs `body` with the open connection, and closes the connection whether `body` returns or throws.
  ///
  /// - Throws: `ClientWebSocketError.refused` when the server responds to the upgrade with a plain response (its body
  ///   is kept), `timedOut` when a step takes longer than the configuration allows, SwiftNIO's connect error when no
  ///   server listens, and the errors of `body`.
  package static func withConnection<Result: Sendable>(
    to target: Target, configuration: Configuration = Configuration(),
    group: MultiThreadedEventLoopGroup = .singletonMultiThreadedEventLoopGroup,
    _ body: (ClientWebSocket) async throws -> Result
  ) async throws -> Result {
    let upgrade = try await connect(to: target, configuration: configuration, group: group)
    let channel = try await messageChannel(of: upgrade)
    return try await channel.executeThenClose { stream, writer in
      let socket = ClientWebSocket(inbound: Inbound(stream: stream), writer: writer)
      do {
        let result = try await body(socket)
        await close(channel.channel, writer: writer, code: 1000)
        return result
      } catch {
        await close(channel.channel, writer: writer, code: 1001)
        throw error
      }
    }
  }

  /// Sends the close frame and waits for the end of the connection, which the handler bounds by `closeTimeout`.
  private static func close(_ channel: any Channel, writer: NIOAsyncChannelOutboundWriter<Command>, code: UInt16) async
  {
    // A connection that has already ended needs no close frame.
    guard channel.isActive else { return }
    // Through the channel instead of the writer, because the writer refuses in a cancelled task.
    try? await channel.writeAndFlush(Command.close(code: code)).get()
    try? await channel.closeFuture.get()
  }

  private static func messageChannel(of upgrade: EventLoopFuture<UpgradeResponse>) async throws -> MessageChannel {
    let response: UpgradeResponse
    do {
      response = try await upgrade.get()
    } catch let error as ChannelError where error == .inappropriateOperationForState {
      // The connection ended before a response, so the upgrade handler was removed.
      throw ClientWebSocketError.connectionLost
    } catch is NIOHTTPClientUpgradeError {
      throw ClientWebSocketError.protocolViolation("the server's response to the upgrade request is not valid")
    }
    switch response {
    case .upgraded(let channel): return channel
    case .refused(let error): throw try await error.get()
    }
  }

  private static func connect(
    to target: Target, configuration: Configuration, group: MultiThreadedEventLoopGroup
  ) async throws -> EventLoopFuture<UpgradeResponse> {
    let bootstrap = ClientBootstrap(group: group)
      .connectTimeout(TimeAmount(configuration.connectTimeout))
      .channelOption(.socketOption(.tcp_nodelay), value: 1)
    let initializer: @Sendable (any Channel) -> EventLoopFuture<EventLoopFuture<UpgradeResponse>> = { channel in
      channel.eventLoop.makeCompletedFuture { try configure(channel, target: target, configuration: configuration) }
    }
    // Numeric addresses need no resolver thread.
    if let address = try? SocketAddress(ipAddress: target.host, port: target.port) {
      return try await bootstrap.connect(to: address, channelInitializer: initializer)
    }
    return try await bootstrap.connect(host: target.host, port: target.port, channelInitializer: initializer)
  }

  private static func configure(
    _ channel: any Channel, target: Target, configuration: Configuration
  ) throws -> EventLoopFuture<UpgradeResponse> {
    var head = HTTPRequestHead(version: .http1_1, method: .GET, uri: target.uri, headers: target.headers)
    head.headers.replaceOrAdd(name: "Host", value: hostHeader(of: target))
    let upgrader = NIOTypedWebSocketClientUpgrader<UpgradeResponse>(
      maxFrameSize: configuration.maximumFrameBytes, enableAutomaticErrorHandling: false
    ) { channel, _ in
      channel.eventLoop.makeCompletedFuture {
        try channel.pipeline.syncOperations.addHandler(ClientWebSocketHandler(configuration: configuration))
        return .upgraded(try wrap(channel))
      }
    }
    var pipeline = NIOUpgradableHTTPClientPipelineConfiguration<UpgradeResponse>(
      upgradeConfiguration: .init(upgradeRequestHead: head, upgraders: [upgrader]) { channel in
        channel.eventLoop.makeCompletedFuture {
          let refusal = channel.eventLoop.makePromise(of: ClientWebSocketError.self)
          let collector = RefusalCollector(promise: refusal, maximumBytes: configuration.maximumRefusalBytes)
          let timeout = channel.eventLoop.scheduleTask(in: TimeAmount(configuration.upgradeTimeout)) {
            channel.close(promise: nil)
          }
          channel.closeFuture.whenComplete { _ in timeout.cancel() }
          try channel.pipeline.syncOperations.addHandler(collector)
          return .refused(refusal.futureResult)
        }
      })
    // The server's first frames may arrive in the same segment as its response.
    pipeline.leftOverBytesStrategy = .forwardBytes
    let response = try channel.pipeline.syncOperations.configureUpgradableHTTPClientPipeline(configuration: pipeline)
    return bounded(response, on: channel, by: configuration.upgradeTimeout)
  }

  private static func wrap(_ channel: any Channel) throws -> MessageChannel {
    try MessageChannel(
      wrappingChannelSynchronously: channel,
      configuration: .init(backPressureStrategy: .init(lowWatermark: 2, highWatermark: 8)))
  }

  /// Closes the channel when no response arrives in time. The future then fails with `timedOut`.
  private static func bounded(
    _ response: EventLoopFuture<UpgradeResponse>, on channel: any Channel, by limit: Duration
  ) -> EventLoopFuture<UpgradeResponse> {
    let promise = channel.eventLoop.makePromise(of: UpgradeResponse.self)
    let timeout = channel.eventLoop.scheduleTask(in: TimeAmount(limit)) {
      promise.fail(ClientWebSocketError.timedOut("the server did not respond to the WebSocket request"))
      channel.close(promise: nil)
    }
    response.whenComplete { result in
      timeout.cancel()
      promise.completeWith(result)
    }
    return promise.futureResult
  }

  private static func hostHeader(of target: Target) -> String {
    let host = target.host.contains(":") ? "[\(target.host)]" : target.host
    return "\(host):\(target.port)"
  }
}

/// Collects the plain response with which a server refuses an upgrade, up to a size limit.
private final class RefusalCollector: ChannelInboundHandler {
  typealias InboundIn = HTTPClientResponsePart

  private let promise: EventLoopPromise<ClientWebSocketError>
  private let maximumBytes: Int
  private var status = 0
  private var body = ByteBuffer()
  private var isDone = false

  init(promise: EventLoopPromise<ClientWebSocketError>, maximumBytes: Int) {
    self.promise = promise
    self.maximumBytes = maximumBytes
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    switch unwrapInboundIn(data) {
    case .head(let head): status = Int(head.status.code)
    case .body(var part):
      guard var kept = part.readSlice(length: min(part.readableBytes, maximumBytes - body.readableBytes)) else {
        return
      }
      body.writeBuffer(&kept)
    case .end: finish(context: context)
    }
  }

  func channelInactive(context: ChannelHandlerContext) {
    finish(context: context)
    context.fireChannelInactive()
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    finish(context: context)
  }

  private func finish(context: ChannelHandlerContext) {
    guard !isDone else { return }
    isDone = true
    promise.succeed(status == 0 ? .connectionLost : .refused(status: status, body: body))
    context.close(promise: nil)
  }
}
