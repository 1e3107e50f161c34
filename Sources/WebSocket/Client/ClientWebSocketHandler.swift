import NIOCore
import NIOWebSocket

/// Performs the actions of `ClientWebSocketStateMachine`, answers pings, and detects a silent server.
final class ClientWebSocketHandler: ChannelDuplexHandler {
  typealias InboundIn = WebSocketFrame
  typealias InboundOut = ClientWebSocket.Event
  typealias OutboundIn = ClientWebSocket.Command
  typealias OutboundOut = WebSocketFrame

  private var machine: ClientWebSocketStateMachine
  private let pingInterval: TimeAmount
  private let closeTimeout: TimeAmount
  private var pingTask: RepeatedTask?
  /// Whether the consumer has requested bytes since the last ones arrived; only then silence counts. A read is pending
  /// after the upgrade.
  private var isReading = true
  private var receivedSinceLastPing = true
  private var readingSinceLastPing = false

  init(configuration: ClientWebSocket.Configuration) {
    machine = ClientWebSocketStateMachine(maximumMessageBytes: configuration.maximumMessageBytes)
    pingInterval = TimeAmount(configuration.pingInterval)
    closeTimeout = TimeAmount(configuration.closeTimeout)
  }

  func handlerAdded(context: ChannelHandlerContext) {
    let bound = NIOLoopBound((self, context), eventLoop: context.eventLoop)
    pingTask = context.eventLoop.scheduleRepeatedTask(initialDelay: pingInterval, delay: pingInterval) { _ in
      let (handler, context) = bound.value
      handler.tick(context: context)
    }
  }

  func handlerRemoved(context: ChannelHandlerContext) {
    pingTask?.cancel()
  }

  func read(context: ChannelHandlerContext) {
    isReading = true
    context.read()
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    receivedSinceLastPing = true
    perform(machine.receive(unwrapInboundIn(data)), context: context)
  }

  func channelReadComplete(context: ChannelHandlerContext) {
    isReading = false
    readingSinceLastPing = false
    context.fireChannelReadComplete()
    // While the connection is closing, no consumer reads, but the server's close frame comes after data that it has
    // sent.
    if machine.state == .closeSent { context.read() }
  }

  func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
    switch unwrapOutboundIn(data) {
    case .message(.text(let text)):
      send(.text, context.channel.allocator.buffer(string: text), context: context, promise: promise)
    case .message(.binary(let bytes)):
      send(.binary, bytes, context: context, promise: promise)
    case .close(let code):
      beginClose(code: code, context: context, promise: promise)
    }
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    guard let error = error as? NIOWebSocketError else {
      // A connection reset means the same as an end without a close frame.
      let isLoss = error is IOError && machine.state == .open
      if isLoss { machine.end() }
      return context.fireErrorCaught(isLoss ? ClientWebSocketError.connectionLost : error)
    }
    machine.end()
    let isTooLarge: Bool
    if case .invalidFrameLength = error { isTooLarge = true } else { isTooLarge = false }
    let sentence = isTooLarge ? "the server sent a frame above the size limit" : "the server sent a malformed frame"
    fail(.protocolViolation(sentence), code: isTooLarge ? 1009 : 1002, context: context)
  }

  func channelInactive(context: ChannelHandlerContext) {
    if machine.state == .open {
      machine.end()
      context.fireErrorCaught(ClientWebSocketError.connectionLost)
    }
    context.fireChannelInactive()
  }

  private func perform(_ action: ClientWebSocketStateMachine.Action, context: ChannelHandlerContext) {
    switch action {
    case .none: break
    case .deliver(let message):
      context.fireChannelRead(wrapInboundOut(.message(message)))
    case .pong(let payload):
      send(.pong, payload, context: context, promise: nil)
      context.flush()
    case .closed(let code, let reason, let reply):
      context.fireChannelRead(wrapInboundOut(.closed(code: code, reason: reason)))
      if reply { sendClose(code: code ?? 1000, context: context, promise: nil) }
      context.close(promise: nil)
    case .fail(let error, let code):
      fail(error, code: code, context: context)
    }
  }

  private func fail(_ error: ClientWebSocketError, code: UInt16, context: ChannelHandlerContext) {
    context.fireErrorCaught(error)
    sendClose(code: code, context: context, promise: nil)
    context.close(promise: nil)
  }

  private func tick(context: ChannelHandlerContext) {
    guard machine.state == .open else { return }
    if !receivedSinceLastPing, isReading, readingSinceLastPing {
      machine.end()
      context.fireErrorCaught(ClientWebSocketError.connectionLost)
      return context.close(promise: nil)
    }
    receivedSinceLastPing = false
    readingSinceLastPing = isReading
    send(.ping, ByteBuffer(), context: context, promise: nil)
    context.flush()
  }

  private func beginClose(code: UInt16, context: ChannelHandlerContext, promise: EventLoopPromise<Void>?) {
    guard machine.beginClose() else {
      promise?.succeed()
      return
    }
    sendClose(code: code, context: context, promise: promise)
    let bound = NIOLoopBound(context, eventLoop: context.eventLoop)
    let timeout = context.eventLoop.scheduleTask(in: closeTimeout) { bound.value.close(promise: nil) }
    context.channel.closeFuture.whenComplete { _ in timeout.cancel() }
    context.read()
  }

  private func sendClose(code: UInt16, context: ChannelHandlerContext, promise: EventLoopPromise<Void>?) {
    // 1005 and 1006 describe local observations and must never be sent. Source: RFC 6455, 7.4.1.
    let sendable = code == 1005 || code == 1006 ? 1000 : code
    var payload = context.channel.allocator.buffer(capacity: 2)
    payload.writeInteger(sendable)
    send(.connectionClose, payload, context: context, promise: promise)
    context.flush()
  }

  private func send(
    _ opcode: WebSocketOpcode, _ data: ByteBuffer, context: ChannelHandlerContext, promise: EventLoopPromise<Void>?
  ) {
    let frame = WebSocketFrame(fin: true, opcode: opcode, maskKey: .random(), data: data)
    context.write(wrapOutboundOut(frame), promise: promise)
  }
}
