import AsyncHTTPClient
import Foundation
import NIOCore
import NIOHTTP1
import NIOPosix
import WebSocket

extension APIError {
  /// Maps transport failures to `APIError`; cancellation and errors of the calling code pass unchanged.
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
      .unreachable, "no server responds at \(endpoint); start one with `martlet up`, or name another with --url")
  }

  static var connectionLost: APIError {
    APIError(
      .connectionLost,
      "the connection to the server broke before the response was complete; the operation may have been carried out"
    )
  }

  private static func wrapping(_ error: HTTPClientError, at endpoint: Endpoint) -> any Error {
    switch error {
    case .cancelled: return CancellationError()
    case .connectTimeout, .getConnectionFromPoolTimeout: return unreachable(endpoint)
    case .deadlineExceeded, .readTimeout, .writeTimeout:
      return APIError(.timedOut, "the server at \(endpoint) did not respond in time")
    case .remoteConnectionClosed, .requestStreamCancelled: return connectionLost
    case .bodyLengthMismatch: return APIError(.truncated, "the source changed its size during the upload")
    default: return APIError(.badResponse, "the HTTP exchange with the server at \(endpoint) failed: \(error)")
    }
  }

  private static func wrapping(_ error: ClientWebSocketError) -> APIError {
    switch error {
    case .refused(let status, let body): return APIError(status: status, body: body)
    case .timedOut(let what): return APIError(.timedOut, what)
    case .connectionLost: return connectionLost
    case .protocolViolation(let what): return APIError(.badResponse, what)
    case .messageTooLarge(let limit):
      return APIError(.badResponse, "the server sent a message of more than \(limit) bytes")
    }
  }

  private static func wrapping(_ error: IOError, at endpoint: Endpoint) -> APIError {
    switch error.errnoCode {
    case ECONNREFUSED, EHOSTUNREACH, ENETUNREACH, ETIMEDOUT, EHOSTDOWN: unreachable(endpoint)
    default: connectionLost
    }
  }
}
