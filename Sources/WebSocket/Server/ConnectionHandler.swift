import HTTPTypes
import NIOCore
import NIOHTTP1
import NIOHTTPTypes
import NIOHTTPTypesHTTP1

/// Sits between Hummingbird's HTTP handlers and the routes. Adds upgrades, lingering closes, parse errors in the API's
/// format, and the detection of clients that disconnect.
///
/// ```
/// http ──head requests a WebSocket──▶ upgradeRequested ──101──▶ tunnel ──response end──▶ lingering
///   │                                   └──other response──▶ http, closing
///   └──error response before the request was read──▶ lingering
/// ```
/// An upgraded connection keeps its request and response: the client's bytes arrive as request body, and the route's
/// response body is sent unchanged. So a WebSocket is a route like any other, with the same middleware and errors.
final class ConnectionHandler: ChannelDuplexHandler {
  typealias InboundIn = HTTPRequestPart
  typealias InboundOut = HTTPRequestPart
  typealias OutboundIn = HTTPResponsePart
  typealias OutboundOut = HTTPResponsePart

  /// How long a closing connection is still read, so that the client receives the response (a reset would destroy it).
  static let lingerTime: TimeAmount = .seconds(2)

  private enum Mode: Equatable {
    case http
    case upgradeRequested
    case tunnel
    case lingering
  }

  let watch = ConnectionWatch()
  private let parseErrorResponse: UpgradableHTTP1Channel.ParseErrorResponse
  private var mode = Mode.http
  private var pendingEnd: HTTPRequestPart?
  private var unansweredRequests = 0
  private var isReadingRequest = false
  private var mustClose = false

  init(parseErrorResponse: @escaping UpgradableHTTP1Channel.ParseErrorResponse) {
    self.parseErrorResponse = parseErrorResponse
  }

  // MARK: Inbound

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    guard mode != .lingering else { return }
    let part = unwrapInboundIn(data)
    switch part {
    case .head(let request):
      unansweredRequests += 1
      isReadingRequest = true
      examine(request, context)
    case .body:
      break
    case .end:
      isReadingRequest = false
      if mode == .upgradeRequested {
        pendingEnd = part
        return
      }
    }
    context.fireChannelRead(data)
  }

  func channelReadComplete(context: ChannelHandlerContext) {
    context.fireChannelReadComplete()
    if mode == .lingering { context.read() }
  }

  func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
    if case .inputClosed? = event as? ChannelEvent {
      watch.close()
      if mode == .lingering { context.close(promise: nil) }
    }
    context.fireUserInboundEventTriggered(event)
  }

  // Not `channelInactive`, because Hummingbird's connection handler does not forward it.
  func handlerRemoved(context: ChannelHandlerContext) {
    watch.close()
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    let isMalformed = error is HTTPParserError || error is HTTP1TypeConversionError
    guard isMalformed, unansweredRequests == 0, mode == .http else { return context.fireErrorCaught(error) }
    let isTooLarge = (error as? HTTPParserError) == .headerOverflow
    var (head, body) = parseErrorResponse(isTooLarge)
    head.headerFields[.connection] = "close"
    head.headerFields[.contentLength] = String(body.readableBytes)
    context.write(wrapOutboundOut(.head(head)), promise: nil)
    context.write(wrapOutboundOut(.body(body)), promise: nil)
    writeLast(wrapOutboundOut(.end(nil)), context, nil)
  }

  private func examine(_ request: HTTPRequest, _ context: ChannelHandlerContext) {
    if WebSocketHandshake.wantsUpgrade(request) {
      // The parser stops after a request for any upgrade. The connection cannot be reused unless the upgrade is
      // granted.
      mustClose = true
      if WebSocketHandshake.canBeGranted(request) { mode = .upgradeRequested }
    }
    if request.headerFields[.expect]?.lowercased() == "100-continue" {
      context.writeAndFlush(wrapOutboundOut(.head(HTTPResponse(status: .continue))), promise: nil)
    }
  }

  // MARK: Outbound

  func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
    switch unwrapOutboundIn(data) {
    case .head(let response):
      writeHead(response, context, promise)
    case .body:
      context.write(data, promise: promise)
    case .end:
      writeEnd(data, context, promise)
    }
  }

  private func writeHead(_ response: HTTPResponse, _ context: ChannelHandlerContext, _ promise: EventLoopPromise<Void>?)
  {
    if mode == .upgradeRequested, response.status == .switchingProtocols {
      context.writeAndFlush(wrapOutboundOut(.head(response)), promise: promise)
      return enterTunnel(context)
    }
    var response = response
    let isLast = unansweredRequests <= 1
    if isReadingRequest, response.status.code >= 400 { mustClose = true }
    if mustClose, isLast { response.headerFields[.connection] = "close" }
    context.write(wrapOutboundOut(.head(response)), promise: promise)
    guard mode == .upgradeRequested, isLast else { return }
    mode = .http
    if let pendingEnd { context.fireChannelRead(wrapInboundOut(pendingEnd)) }
    pendingEnd = nil
  }

  private func writeEnd(_ data: NIOAny, _ context: ChannelHandlerContext, _ promise: EventLoopPromise<Void>?) {
    unansweredRequests -= 1
    guard unansweredRequests == 0, mustClose || mode == .tunnel else { return context.write(data, promise: promise) }
    writeLast(data, context, promise)
  }

  // MARK: Mode changes

  private func enterTunnel(_ context: ChannelHandlerContext) {
    mode = .tunnel
    pendingEnd = nil
    let pipeline = context.pipeline.syncOperations
    do {
      let codec = try pipeline.context(handlerType: HTTP1ToHTTPServerCodec.self)
      try pipeline.addHandler(TunnelHandler(), position: .after(codec.handler))
      pipeline.removeHandler(context: codec, promise: nil)
      let encoder = try pipeline.context(handlerType: HTTPResponseEncoder.self)
      pipeline.removeHandler(context: encoder, promise: nil)
      let decoder = try pipeline.context(handlerType: ByteToMessageHandler<HTTPRequestDecoder>.self)
      pipeline.removeHandler(context: decoder, promise: nil)
    } catch {
      context.fireErrorCaught(error)
      context.close(promise: nil)
    }
  }

  /// Writes the end of the last response. The linger time starts when the kernel has taken it, so a slow client gets
  /// the whole response.
  private func writeLast(_ end: NIOAny, _ context: ChannelHandlerContext, _ promise: EventLoopPromise<Void>?) {
    mode = .lingering
    let flushed = promise ?? context.eventLoop.makePromise(of: Void.self)
    let bound = NIOLoopBound((self, context), eventLoop: context.eventLoop)
    flushed.futureResult.whenComplete { _ in bound.value.0.linger(bound.value.1) }
    context.writeAndFlush(end, promise: flushed)
    context.read()
  }

  /// Closes the output and reads and drops the client's data until it closes or the linger time is over.
  private func linger(_ context: ChannelHandlerContext) {
    context.close(mode: .output, promise: nil)
    let context = NIOLoopBound(context, eventLoop: context.eventLoop)
    context.value.eventLoop.scheduleTask(in: Self.lingerTime) { context.value.close(promise: nil) }
  }
}

/// Replaces the HTTP codec on an upgraded connection.
private final class TunnelHandler: ChannelDuplexHandler {
  typealias InboundIn = ByteBuffer
  typealias InboundOut = HTTPRequestPart
  typealias OutboundIn = HTTPResponsePart
  typealias OutboundOut = ByteBuffer

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    context.fireChannelRead(wrapInboundOut(.body(unwrapInboundIn(data))))
  }

  func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
    switch unwrapOutboundIn(data) {
    case .body(let bytes): context.write(wrapOutboundOut(bytes), promise: promise)
    case .head, .end: promise?.succeed()
    }
  }
}
