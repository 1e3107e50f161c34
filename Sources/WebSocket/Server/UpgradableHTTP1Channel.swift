package import HTTPTypes
package import HummingbirdCore
package import Logging
package import NIOCore
import NIOHTTP1
package import NIOHTTPTypes
import NIOHTTPTypesHTTP1

/// HTTP/1.1 connections on which any request may become a WebSocket; see `ConnectionHandler`.
package struct UpgradableHTTP1Channel: ServerChildChannel, HTTPChannelHandler {
  /// Bytes per read(2) that a connection with much input may use.
  private static let maximumReadBytes = 524_288

  package typealias Value = NIOAsyncChannel<HTTPRequestPart, HTTPResponsePart>
  /// Makes the response to a request that is not valid HTTP. The argument says whether its head was too large.
  package typealias ParseErrorResponse = @Sendable (Bool) -> (HTTPResponse, ByteBuffer)

  package struct Configuration: Sendable {
    /// For all header fields of a request together.
    package var maximumHeaderBytes = 32_768
    package var maximumHeaderCount = 128
    /// A connection without a request, or whose request makes no progress, is closed after this time.
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
