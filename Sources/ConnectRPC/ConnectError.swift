package import NIOCore

#if canImport(FoundationEssentials)
  import FoundationEssentials
#else
  import Foundation
#endif

/// A failed call, as the peer sees it: code and message are all that travels. Error details are neither sent nor kept.
package struct ConnectError: Error, Sendable, Equatable, CustomStringConvertible {
  package var code: ConnectCode
  package var message: String

  package init(_ code: ConnectCode, _ message: String) {
    self.code = code
    self.message = message
  }

  package var description: String { "\(code.rawValue): \(message)" }
}

extension ConnectError {
  /// Body of a failed unary answer: `{"code":…,"message":…}`.
  ///
  /// Source: https://connectrpc.com/docs/protocol/#error-end-stream
  package func encoded() -> ByteBuffer {
    Self.encode(WireError(self))
  }

  /// Reads the body of a failed unary answer. A body that is not a Connect error is judged by its HTTP status; its message is
  /// kept when it is a JSON object with one.
  package init(body: ByteBuffer, httpStatus: Int) {
    let wire = try? JSONDecoder().decode(LenientError.self, from: Data(body.readableBytesView))
    let code = wire?.code.flatMap(ConnectCode.init(rawValue:)) ?? ConnectCode(inferredFromHTTPStatus: httpStatus)
    self.init(code, wire?.message ?? "the server answered with HTTP status \(httpStatus)")
  }

  /// Payload of the last frame of a stream: `{}` or `{"error":{…}}`.
  package static func encodeEndOfStream(_ error: ConnectError?) -> ByteBuffer {
    guard let error else { return ByteBuffer(string: "{}") }
    return encode(WireEndOfStream(error: WireError(error)))
  }

  /// Reads the payload of the last frame of a stream.
  /// - Returns: nil when the call succeeded.
  /// - Throws: `ConnectError` with code `internal` when the payload is malformed, which includes an error without a known code.
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
    return ConnectError(code, error.message ?? code.rawValue)
  }

  private static func encode(_ value: some Encodable) -> ByteBuffer {
    // Two strings always encode; a body that says less is still a valid answer.
    guard let data = try? JSONEncoder().encode(value) else { return ByteBuffer(string: "{\"code\":\"internal\"}") }
    return ByteBuffer(bytes: data)
  }
}

private struct WireError: Encodable {
  let code: String
  let message: String

  init(_ error: ConnectError) {
    code = error.code.rawValue
    message = error.message
  }
}

private struct WireEndOfStream: Encodable {
  let error: WireError
}

/// What others send: the code may be missing or a number, the message missing.
private struct LenientError: Decodable {
  let code: String?
  let message: String?

  enum CodingKeys: CodingKey {
    case code
    case message
  }

  init(from decoder: any Decoder) throws {
    let container = try decoder.container(keyedBy: CodingKeys.self)
    code = try? container.decodeIfPresent(String.self, forKey: .code)
    message = try? container.decodeIfPresent(String.self, forKey: .message)
  }
}

private struct LenientEndOfStream: Decodable {
  let error: LenientError?
}
