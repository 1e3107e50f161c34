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

/// What a handler knows about the call besides its messages.
package struct ConnectContext: Sendable {
  package let headers: HTTPFields
  /// When the caller stops waiting; nil means never. The handler's task is cancelled at that moment.
  package let deadline: ContinuousClock.Instant?
  /// Nil on transports without addresses.
  package let remoteAddress: SocketAddress?
  package let logger: Logger

  package init(headers: HTTPFields, deadline: ContinuousClock.Instant?, remoteAddress: SocketAddress?, logger: Logger) {
    self.headers = headers
    self.deadline = deadline
    self.remoteAddress = remoteAddress
    self.logger = logger
  }
}

/// A request context that knows its connection. `ConnectRouter` needs it to notice a client that went away while a
/// handler is idle, without giving up the connection's keep-alive.
package protocol ConnectRequestContext: RequestContext {
  var channel: any Channel { get }
}

/// The smallest context a `ConnectRouter` can work with.
package struct BasicConnectRequestContext: ConnectRequestContext {
  package var coreContext: CoreRequestContextStorage
  package let channel: any Channel

  package init(source: ApplicationRequestContextSource) {
    coreContext = CoreRequestContextStorage(source: source)
    channel = source.channel
  }
}
