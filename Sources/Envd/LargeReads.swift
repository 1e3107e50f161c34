import NIOCore
import NIOHTTPTypes

/// Lets a connection that receives a lot take more with each read(2): under emulation every system call counts.
final class LargeReads: ChannelInboundHandler, RemovableChannelHandler, Sendable {
  typealias InboundIn = HTTPRequestPart

  /// As large as a piece of a file on its way to the disk.
  private static let maximumBytes = 524_288

  func handlerAdded(context: ChannelHandlerContext) {
    let allocator = AdaptiveRecvByteBufferAllocator(minimum: 1_024, initial: 8_192, maximum: Self.maximumBytes)
    try? context.channel.syncOptions?.setOption(.recvAllocator, value: allocator)
  }
}
