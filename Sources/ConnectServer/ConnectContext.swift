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

/// The parsed and validated request headers of a call: codec and deadline.
struct CallHead: Sendable {
  /// The protocol allows time-outs of at most ten digits.
  static let maximumTimeoutDigits = 10
  static let protocolVersion = "1"

  let codec: ConnectCodec
  let deadline: ContinuousClock.Instant?
}

extension HTTPField.Name {
  /// Makes the name of one of the protocol's headers.
  ///
  /// Source: https://connectrpc.com/docs/protocol/#unary-request
  private static func known(_ name: String) -> HTTPField.Name {
    guard let name = HTTPField.Name(name) else { preconditionFailure("\(name) is not a header name") }
    return name
  }

  package static let connectProtocolVersion = known("Connect-Protocol-Version")
  package static let connectTimeout = known("Connect-Timeout-Ms")
  package static let connectContentEncoding = known("Connect-Content-Encoding")
  package static let acceptPost = known("Accept-Post")
}

extension CallHead {
  /// Validates the headers of a request.
  /// - Parameter encodingHeaders: the headers that may name a compression. No compression is supported.
  /// - Throws: `invalid_argument` for a malformed header, `unimplemented` for a compressed request.
  init(
    codec: ConnectCodec, headers: HTTPFields, encodingHeaders: [HTTPField.Name], now: ContinuousClock.Instant
  ) throws(ConnectError) {
    if let version = headers[.connectProtocolVersion], version != Self.protocolVersion {
      throw ConnectError(.invalidArgument, "Connect-Protocol-Version must be \(Self.protocolVersion)")
    }
    for name in encodingHeaders {
      guard let encoding = headers[name], encoding.lowercased() != "identity", !encoding.isEmpty else { continue }
      throw ConnectError(
        .unimplemented, "compression \(encoding.prefix(32)) is not supported; supported encodings are identity")
    }
    self.codec = codec
    deadline = try headers[.connectTimeout].map { text throws(ConnectError) in now + (try Self.timeout(text)) }
  }

  private static func timeout(_ text: String) throws(ConnectError) -> Duration {
    guard (1...maximumTimeoutDigits).contains(text.utf8.count), text.utf8.allSatisfy({ (48...57).contains($0) }),
      let milliseconds = Int64(text)
    else {
      throw ConnectError(
        .invalidArgument, "Connect-Timeout-Ms must be a number of at most \(maximumTimeoutDigits) digits")
    }
    return .milliseconds(milliseconds)
  }
}
