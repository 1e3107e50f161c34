package import NIOCore

#if canImport(FoundationEssentials)
  import FoundationEssentials
#else
  import Foundation
#endif

/// A failed call. Code, message and details are all that is sent to the peer.
package struct ConnectError: Error, Sendable, Equatable, CustomStringConvertible {
  /// Additional information about an error: a protobuf message that the receiver finds by its type name. Receivers
  /// ignore types that they do not know.
  package struct Detail: Sendable, Equatable {
    /// Full name of the message type, for example `martlet.host.v1.ErrorDetail`.
    package var type: String
    /// The encoded protobuf message.
    package var value: ByteBuffer

    package init(type: String, value: ByteBuffer) {
      self.type = type
      self.value = value
    }
  }

  /// Details that are kept of a received error; further ones are dropped.
  package static let maximumDetails = 8

  package var code: ConnectCode
  package var message: String
  package var details: [Detail]

  package init(_ code: ConnectCode, _ message: String, details: [Detail] = []) {
    self.code = code
    self.message = message
    self.details = details
  }

  package var description: String { "\(code.rawValue): \(message)" }
}

extension ConnectError {
  /// Body of a failed unary response: `{"code":…,"message":…}`, and `"details"` if there are any.
  ///
  /// Source: https://connectrpc.com/docs/protocol/#error-end-stream
  package func encoded() -> ByteBuffer {
    Self.encode(WireError(self))
  }

  /// Reads the body of a failed unary response. If the body is not a Connect error, the code follows from the HTTP
  /// status; the message is kept if the body is a JSON object with a message.
  package init(body: ByteBuffer, httpStatus: Int) {
    let wire = try? JSONDecoder().decode(LenientError.self, from: Data(body.readableBytesView))
    let code = wire?.code.flatMap(ConnectCode.init(rawValue:)) ?? ConnectCode(inferredFromHTTPStatus: httpStatus)
    self.init(
      code, wire?.message ?? "the server responded with HTTP status \(httpStatus)", details: wire?.details ?? [])
  }

  /// Payload of the last frame of a stream: `{}` or `{"error":{…}}`.
  package static func encodeEndOfStream(_ error: ConnectError?) -> ByteBuffer {
    guard let error else { return ByteBuffer(string: "{}") }
    return encode(WireEndOfStream(error: WireError(error)))
  }

  /// Reads the payload of the last frame of a stream.
  /// - Returns: nil when the call succeeded.
  /// - Throws: `ConnectError` with code `internal` when the payload is malformed, which includes an error without a
  ///   known code.
  package static func decodeEndOfStream(_ payload: ByteBuffer) throws(ConnectError) -> ConnectError? {
    let end: LenientEndOfStream
    do {
      end = try JSONDecoder().decode(LenientEndOfStream.self, from: Data(payload.readableBytesView))
    } catch {
      throw ConnectError(.internalError, "the stream's last frame is malformed")
    }
    guard let error = end.error else { return nil }
    guard let code = error.code.flatMap(ConnectCode.init(rawValue:)) else {
      throw ConnectError(.unknown, error.message ?? "the stream ended with an error without a known code")
    }
    return ConnectError(code, error.message ?? code.rawValue, details: error.details)
  }

  private static func encode(_ value: some Encodable) -> ByteBuffer {
    // Strings always encode. The fallback is a valid error body too.
    guard let data = try? JSONEncoder().encode(value) else { return ByteBuffer(string: "{\"code\":\"internal\"}") }
    return ByteBuffer(bytes: data)
  }
}

private struct WireError: Encodable {
  let code: String
  let message: String
  /// nil if there are none, so that the JSON has no such key.
  let details: [WireDetail]?

  init(_ error: ConnectError) {
    code = error.code.rawValue
    message = error.message
    details = error.details.isEmpty ? nil : error.details.map { WireDetail($0) }
  }
}

private struct WireEndOfStream: Encodable {
  let error: WireError
}

/// A detail in JSON. The value is sent as base64 without padding and accepted with and without padding.
///
/// Source: https://connectrpc.com/docs/protocol/#error-end-stream
private struct WireDetail: Codable {
  let type: String
  let value: String

  init(_ detail: ConnectError.Detail) {
    type = detail.type
    var text = Data(detail.value.readableBytesView).base64EncodedString()
    while text.last == "=" { text.removeLast() }
    value = text
  }

  var detail: ConnectError.Detail? {
    let padding = String(repeating: "=", count: (4 - value.utf8.count % 4) % 4)
    guard let data = Data(base64Encoded: value + padding) else { return nil }
    return ConnectError.Detail(type: type, value: ByteBuffer(bytes: data))
  }
}

/// An error from a peer, decoded tolerantly: the code may be missing or a number, the message may be missing, and
/// details that are malformed are dropped.
private struct LenientError: Decodable {
  let code: String?
  let message: String?
  let details: [ConnectError.Detail]

  enum CodingKeys: CodingKey {
    case code
    case message
    case details
  }

  init(from decoder: any Decoder) throws {
    let container = try decoder.container(keyedBy: CodingKeys.self)
    code = try? container.decodeIfPresent(String.self, forKey: .code)
    message = try? container.decodeIfPresent(String.self, forKey: .message)
    let details = try? container.decodeIfPresent([LenientDetail].self, forKey: .details)
    self.details = (details ?? []).prefix(ConnectError.maximumDetails).compactMap { $0.wire?.detail }
  }
}

private struct LenientDetail: Decodable {
  let wire: WireDetail?

  init(from decoder: any Decoder) throws {
    wire = try? WireDetail(from: decoder)
  }
}

private struct LenientEndOfStream: Decodable {
  let error: LenientError?
}

/// Error codes of the Connect protocol; the raw value is the code on the wire.
///
/// Source: https://connectrpc.com/docs/protocol/#error-codes
package enum ConnectCode: String, Sendable, CaseIterable, Codable {
  case canceled
  case unknown
  case invalidArgument = "invalid_argument"
  case deadlineExceeded = "deadline_exceeded"
  case notFound = "not_found"
  case alreadyExists = "already_exists"
  case permissionDenied = "permission_denied"
  case resourceExhausted = "resource_exhausted"
  case failedPrecondition = "failed_precondition"
  case aborted
  case outOfRange = "out_of_range"
  case unimplemented
  case internalError = "internal"
  case unavailable
  case dataLoss = "data_loss"
  case unauthenticated

  /// HTTP status of a unary response that fails with this code.
  package var httpStatus: Int {
    switch self {
    case .canceled: 499
    case .unknown, .internalError, .dataLoss: 500
    case .invalidArgument, .failedPrecondition, .outOfRange: 400
    case .deadlineExceeded: 504
    case .notFound: 404
    case .alreadyExists, .aborted: 409
    case .permissionDenied: 403
    case .resourceExhausted: 429
    case .unimplemented: 501
    case .unavailable: 503
    case .unauthenticated: 401
    }
  }

  /// The code for a response that has this HTTP status and no readable Connect error.
  ///
  /// Source: https://connectrpc.com/docs/protocol/#http-to-error-code
  package init(inferredFromHTTPStatus status: Int) {
    switch status {
    case 400: self = .internalError
    case 401: self = .unauthenticated
    case 403: self = .permissionDenied
    case 404: self = .unimplemented
    case 429, 502, 503, 504: self = .unavailable
    default: self = .unknown
    }
  }
}
