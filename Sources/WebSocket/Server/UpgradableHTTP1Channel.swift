package import HTTPTypes
package import HummingbirdCore
package import Logging
package import NIOCore
import NIOHTTP1
package import NIOHTTPTypes
import NIOHTTPTypesHTTP1

/// HTTP/1.1 connections on which any request may become a WebSocket; see `ConnectionHandler`.
package struct UpgradableHTTP1Channel: ServerChildChannel, HTTPChannelHandler {
  /// A connection that receives a lot takes up to this with each read(2).
  private static let maximumReadBytes = 524_288

  package typealias Value = NIOAsyncChannel<HTTPRequestPart, HTTPResponsePart>
  /// Answers a request that is not HTTP. The argument says whether its head was too large.
  package typealias ParseErrorResponse = @Sendable (Bool) -> (HTTPResponse, ByteBuffer)

  package struct Configuration: Sendable {
    /// All header fields of a request together.
    package var maximumHeaderBytes = 32_768
    package var maximumHeaderCount = 128
    /// A connection without a request, or with one that does not get on, is closed after this.
    package var idleTimeout: Duration = .seconds(75)

    package init() {}
  }

  package let responder: Responder
  private let configuration: Configuration
  private let parseErrorResponse: ParseErrorResponse

  package init(
    responder: @escaping Responder, configuration: Configuration, parseErrorResponse: @escaping ParseErrorResponse
  ) {
    self.responder = responder
    self.configuration = configuration
    self.parseErrorResponse = parseErrorResponse
  }

  package func setup(channel: any Channel, logger: Logger) -> EventLoopFuture<Value> {
    channel.eventLoop.makeCompletedFuture {
      var limits = NIOHTTPDecoderLimitConfiguration()
      limits.maxHeaderFieldSize = configuration.maximumHeaderBytes
      limits.maxHeaderListSize = configuration.maximumHeaderBytes
      limits.maxHeaderFieldCount = configuration.maximumHeaderCount
      let pipeline = channel.pipeline.syncOperations
      try pipeline.addHandler(HTTPResponseEncoder())
      try pipeline.addHandler(
        ByteToMessageHandler(HTTPRequestDecoder(leftOverBytesStrategy: .forwardBytes, limitConfiguration: limits)))
      try pipeline.addHandler(HTTP1ToHTTPServerCodec(secure: false))
      try pipeline.addHandler(HTTPConnectionStateHandler(idleTimeout: configuration.idleTimeout, logger: logger))
      try pipeline.addHandler(ConnectionHandler(parseErrorResponse: parseErrorResponse))
      try channel.syncOptions?.setOption(.socketOption(.so_keepalive), value: 1)
      try channel.syncOptions?.setOption(.tcpOption(.tcp_nodelay), value: 1)
      try channel.syncOptions?.setOption(
        .recvAllocator,
        value: AdaptiveRecvByteBufferAllocator(minimum: 1_024, initial: 8_192, maximum: Self.maximumReadBytes))
      return try NIOAsyncChannel(
        wrappingChannelSynchronously: channel, configuration: .init(isOutboundHalfClosureEnabled: true))
    }
  }

  package func handle(value: Value, logger: Logger) async {
    await handleHTTP(asyncChannel: value, logger: logger)
  }
}

extension HTTPServerBuilder {
  package static func upgradableHTTP1(
    configuration: UpgradableHTTP1Channel.Configuration = .init(),
    parseErrorResponse: @escaping UpgradableHTTP1Channel.ParseErrorResponse
  ) -> HTTPServerBuilder {
    HTTPServerBuilder { responder in
      UpgradableHTTP1Channel(responder: responder, configuration: configuration, parseErrorResponse: parseErrorResponse)
    }
  }
}
