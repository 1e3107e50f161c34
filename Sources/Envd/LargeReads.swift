import NIOCore
import NIOHTTPTypes

/// Lets connections with much input read more per read(2), because system calls are slow under emulation.
final class LargeReads: ChannelInboundHandler, RemovableChannelHandler, Sendable {
  typealias InboundIn = HTTPRequestPart

  /// Same size as the chunks in which uploads are written to disk.
  private static let maximumBytes = 524_288

  func handlerAdded(context: ChannelHandlerContext) {
    let allocator = AdaptiveRecvByteBufferAllocator(minimum: 1_024, initial: 8_192, maximum: Self.maximumBytes)
    try? context.channel.syncOptions?.setOption(.recvAllocator, value: allocator)
  }
}
