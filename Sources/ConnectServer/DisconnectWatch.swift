import Connect
import NIOCore

#if canImport(Musl)
  import Musl
#else
  import Glibc
#endif

/// Calls back once the client of a connection has closed its side, also while nobody reads from the connection or
/// writes to it.
///
/// Hummingbird's own way (`consumeWithCancellationOnInboundClose`) ends the connection after every watched call; this
/// handler sits in the pipeline for the time of one call only, so that the next call finds the connection alive.
final class DisconnectWatch: ChannelInboundHandler, RemovableChannelHandler, Sendable {
  typealias InboundIn = Any

  /// Number of the state "the peer has closed, we have not". Source: linux/include/net/tcp_states.h
  private static let closeWait: UInt8 = 8

  private let onClose: @Sendable () -> Void

  init(onClose: @escaping @Sendable () -> Void) {
    self.onClose = onClose
  }

  /// A connection that is closed already calls back before this returns.
  func install(on channel: any Channel) async {
    do {
      try await channel.pipeline.addHandler(self).get()
      // The end may have been read before the handler was there to see it.
      guard let socket = channel as? any SocketOptionProvider, channel.remoteAddress?.protocol != .unix else { return }
      let information = try await socket.getTCPInfo().get()
      if information.tcpi_state == Self.closeWait { onClose() }
    } catch is ChannelError {
      onClose()
    } catch {
      // Not a TCP socket: the events alone decide.
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

  /// Also the last word of a channel that closes: Hummingbird's connection handler keeps `channelInactive` to itself.
  func handlerRemoved(context: ChannelHandlerContext) {
    onClose()
  }
}
