import Connect
package import HTTPTypes

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
