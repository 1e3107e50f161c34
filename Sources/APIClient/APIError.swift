import Foundation
package import Model
import NIOCore

/// Why a call failed, as the server said it or as this side saw it.
package struct APIError: Error, Sendable, Equatable, CustomStringConvertible {
  /// What can go wrong without an answer from the server. The raw values never collide with `ErrorCode`.
  package enum LocalCode: String, Sendable, CaseIterable {
    /// Nobody listens at the address.
    case unreachable
    /// The connection ended in the middle of an answer: what was asked for may or may not have happened.
    case connectionLost = "connection_lost"
    case timedOut = "timed_out"
    /// The answer is not what the API promises.
    case badAnswer = "bad_answer"
    /// Fewer bytes arrived, or were read from the source, than were announced.
    case truncated
    case noCredentials = "no_credentials"
    /// The caller's own input: an address that is not one, a file that cannot be read.
    case invalidInput = "invalid_input"
    case inputOutput = "input_output"

    /// Source: sysexits(3).
    package var exitCode: Int32 {
      switch self {
      case .unreachable: 69
      case .connectionLost, .truncated, .inputOutput: 74
      case .timedOut: 75
      case .badAnswer: 76
      case .noCredentials: 77
      case .invalidInput: 64
      }
    }
  }

  /// Stable code of the server's error body, or a `LocalCode`.
  package let code: String
  /// A sentence for a person.
  package let message: String
  /// HTTP status; nil when the error arose on this side or inside a stream.
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

  /// The server's code when it is one of ours.
  package var errorCode: ErrorCode? { ErrorCode(rawValue: code) }
  package var localCode: LocalCode? { LocalCode(rawValue: code) }

  /// Exit code for the command line: the shared table for the server's codes, sysexits(3) for local ones.
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

  /// From a response that is not a success; a body that is not our error format is named by its status only, never
  /// quoted.
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
      message: "the server answered with HTTP status \(status) and no explanation; is it a Martlet server?",
      status: status)
  }
}
