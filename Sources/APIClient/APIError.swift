import Foundation
package import Model
import NIOCore

/// Why a call failed: an error that the server reported, or one that arose in the client.
package struct APIError: Error, Sendable, Equatable, CustomStringConvertible {
  /// Errors that arise in the client. The raw values differ from those of `ErrorCode`.
  package enum LocalCode: String, Sendable, CaseIterable {
    /// No server listens at the address.
    case unreachable
    /// The connection broke before the response was complete: the operation may or may not have been carried out.
    case connectionLost = "connection_lost"
    case timedOut = "timed_out"
    /// The response does not match the API.
    case badResponse = "bad_answer"
    /// The number of bytes received, or read from the source, differs from the announced length.
    case truncated
    case noCredentials = "no_credentials"
    /// Invalid input of the user, such as a malformed address or an unreadable file.
    case invalidInput = "invalid_input"
    case inputOutput = "input_output"

    /// Source: sysexits(3).
    package var exitCode: Int32 {
      switch self {
      case .unreachable: 69
      case .connectionLost, .truncated, .inputOutput: 74
      case .timedOut: 75
      case .badResponse: 76
      case .noCredentials: 77
      case .invalidInput: 64
      }
    }
  }

  /// Code of the server's error response, or a `LocalCode`.
  package let code: String
  /// A sentence for the user.
  package let message: String
  /// HTTP status; nil if the error arose in the client or inside a stream.
  package let status: Int?

  package init(code: String, message: String, status: Int? = nil) {
    self.code = code
    self.message = message
    self.status = status
  }

  package init(_ code: LocalCode, _ message: String) {
    self.init(code: code.rawValue, message: message)
  }

  package var description: String { message }

  /// The server's error code, if this client knows it.
  package var errorCode: ErrorCode? { ErrorCode(rawValue: code) }
  package var localCode: LocalCode? { LocalCode(rawValue: code) }

  /// Exit code of the CLI: from `ErrorCode` for the server's errors, from sysexits(3) for local ones.
  package var exitCode: Int32 {
    if let errorCode { return errorCode.meaning.exitCode }
    return localCode?.exitCode ?? (status.map { $0 < 500 } == true ? 64 : 69)
  }
}

extension APIError {
  private struct Body: Decodable {
    struct Content: Decodable {
      var code: String
      var message: String
    }
    var error: Content
  }

  /// Makes an error from an unsuccessful response. If the body is not in the API's error format, the message contains
  /// only the status and never the body.
  init(status: Int, body: ByteBuffer) {
    if let content = try? JSONDecoder().decode(Body.self, from: Data(body.readableBytesView)).error {
      self.init(code: content.code, message: content.message, status: status)
      return
    }
    let code: ErrorCode
    switch status {
    case 401: code = .unauthorized
    case 403: code = .forbidden
    case 404: code = .notFound
    case 405: code = .methodNotAllowed
    case 413: code = .tooLarge
    case 429: code = .rateLimited
    case 400..<500: code = .invalidRequest
    case 503: code = .hostUnavailable
    default: code = .internalError
    }
    self.init(
      code: code.rawValue,
      message: "the server responded with HTTP status \(status) and no error message; is it a Martlet server?",
      status: status)
  }
}
