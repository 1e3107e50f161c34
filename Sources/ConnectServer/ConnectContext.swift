import Connect
package import HTTPTypes
package import Hummingbird
package import Logging
package import NIOCore

/// Bounds of the Connect server; part of docs/specification.md.
package struct ConnectLimits: Sendable {
  /// Longest message that is accepted, in bytes after HTTP framing; longer ones fail with `resource_exhausted`.
  package var maximumMessageBytes: Int

  package init(maximumMessageBytes: Int = 4_194_304) {
    self.maximumMessageBytes = maximumMessageBytes
  }
}

/// What a handler knows about a call besides the messages.
package struct ConnectContext: Sendable {
  package let headers: HTTPFields
  /// The deadline that the client has set; nil if none. The handler's task is cancelled at that moment.
  package let deadline: ContinuousClock.Instant?
  /// nil on transports without addresses.
  package let remoteAddress: SocketAddress?
  package let logger: Logger

  package init(headers: HTTPFields, deadline: ContinuousClock.Instant?, remoteAddress: SocketAddress?, logger: Logger) {
    self.headers = headers
    self.deadline = deadline
    self.remoteAddress = remoteAddress
    self.logger = logger
  }
}

/// A request context that knows its connection. `ConnectRouter` uses the channel to notice that a client has
/// disconnected while a handler is idle, without closing kept-alive connections.
package protocol ConnectRequestContext: RequestContext {
  var channel: any Channel { get }
}

/// The minimal request context for a `ConnectRouter`.
package struct BasicConnectRequestContext: ConnectRequestContext {
  package var coreContext: CoreRequestContextStorage
  package let channel: any Channel

  package init(source: ApplicationRequestContextSource) {
    coreContext = CoreRequestContextStorage(source: source)
    channel = source.channel
  }
}
