import AsyncHTTPClient
import Foundation
import NIOCore
import NIOHTTP1
import NIOPosix
import WebSocket

extension APIError {
  /// Gives a failure below HTTP a code and a sentence; cancellation and the
  /// errors of callers pass through unchanged.
  static func wrapping(_ error: any Error, at endpoint: Endpoint) -> any Error {
    switch error {
    case is APIError, is CancellationError: return error
    case let error as HTTPClientError: return wrapping(error, at: endpoint)
    case let error as ClientWebSocketError: return wrapping(error)
    case is NIOConnectionError: return unreachable(endpoint)
    case is HTTPParserError: return connectionLost
    case let error as IOError: return wrapping(error, at: endpoint)
    case let error as ChannelError:
      if case .connectTimeout = error { return unreachable(endpoint) }
      return connectionLost
    default: return error
    }
  }

  static func unreachable(_ endpoint: Endpoint) -> APIError {
    APIError(
      .unreachable, "no server answers at \(endpoint); start one with `martlet up`, or name another one with --url")
  }

  static var connectionLost: APIError {
    APIError(
      .connectionLost,
      "the connection to the server broke before the answer was complete; whether the work was done is unknown")
  }

  private static func wrapping(_ error: HTTPClientError, at endpoint: Endpoint) -> any Error {
    switch error {
    case .cancelled: return CancellationError()
    case .connectTimeout, .getConnectionFromPoolTimeout: return unreachable(endpoint)
    case .deadlineExceeded, .readTimeout, .writeTimeout:
      return APIError(.timedOut, "the server at \(endpoint) did not answer in time")
    case .remoteConnectionClosed, .requestStreamCancelled: return connectionLost
    case .bodyLengthMismatch: return APIError(.truncated, "the source changed its size while it was being sent")
    default: return APIError(.badAnswer, "the conversation with the server at \(endpoint) failed: \(error)")
    }
  }

  private static func wrapping(_ error: ClientWebSocketError) -> APIError {
    switch error {
    case .refused(let status, let body): return APIError(status: status, body: body)
    case .timedOut(let what): return APIError(.timedOut, what)
    case .connectionLost: return connectionLost
    case .protocolViolation(let what): return APIError(.badAnswer, what)
    case .messageTooLarge(let limit):
      return APIError(.badAnswer, "the server sent a message of more than \(limit) bytes")
    }
  }

  private static func wrapping(_ error: IOError, at endpoint: Endpoint) -> APIError {
    switch error.errnoCode {
    case ECONNREFUSED, EHOSTUNREACH, ENETUNREACH, ETIMEDOUT, EHOSTDOWN: unreachable(endpoint)
    default: connectionLost
    }
  }
}
