import Connect
import NIOCore

#if canImport(Musl)
  import Musl
#else
  import Glibc
#endif

/// Calls back when the client of a connection has closed its side, even while the server neither reads nor writes.
///
/// Hummingbird's `consumeWithCancellationOnInboundClose` closes the connection after every watched call. This handler
/// is in the pipeline during one call only, so the connection can be reused for the next one.
final class DisconnectWatch: ChannelInboundHandler, RemovableChannelHandler, Sendable {
  typealias InboundIn = Any

  /// The TCP state CLOSE_WAIT: the peer has closed, this side has not. Source: linux/include/net/tcp_states.h
  private static let closeWait: UInt8 = 8

  private let onClose: @Sendable () -> Void

  init(onClose: @escaping @Sendable () -> Void) {
    self.onClose = onClose
  }

  /// Adds the handler to the pipeline. If the connection is already closed, it calls back before this returns.
  func install(on channel: any Channel) async {
    do {
      try await channel.pipeline.addHandler(self).get()
      // The end may have been read before the handler was in the pipeline.
      guard let socket = channel as? any SocketOptionProvider, channel.remoteAddress?.protocol != .unix else { return }
      let information = try await socket.getTCPInfo().get()
      if information.tcpi_state == Self.closeWait { onClose() }
    } catch is ChannelError {
      onClose()
    } catch {
      // Not a TCP socket: only the channel's events tell the end.
    }
  }

  func remove(from channel: any Channel) async {
    // Fails only when the channel has removed it already.
    try? await channel.pipeline.removeHandler(self).get()
  }

  func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
    if case ChannelEvent.inputClosed? = event as? ChannelEvent { onClose() }
    context.fireUserInboundEventTriggered(event)
  }

  func channelInactive(context: ChannelHandlerContext) {
    onClose()
    context.fireChannelInactive()
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    onClose()
    context.fireErrorCaught(error)
  }

  /// Also called when the channel closes: Hummingbird's connection handler does not forward `channelInactive`.
  func handlerRemoved(context: ChannelHandlerContext) {
    onClose()
  }
}
