import Foundation
import HTTPTypes
import Hummingbird
import Model
import NIOCore
import NIOHTTP1

/// Converts errors to responses with the body `{"error":{"code","message"}}`. All error responses are made here.
enum ErrorResponse {
  static func response(for error: MartletError) -> Response {
    var headers: HTTPFields = [:]
    if let seconds = error.retryAfterSeconds { headers[.retryAfter] = String(seconds) }
    return JSONResponse.make(
      body(error), status: HTTPResponse.Status(code: error.code.meaning.httpStatus), headers: headers)
  }

  static func body(_ error: MartletError) -> JSONValue {
    ["error": ["code": .string(error.code.rawValue), "message": .string(error.message)]]
  }

  /// Maps errors of the HTTP libraries to `MartletError`; other foreign errors become `internal`.
  static func martletError(_ error: any Error) -> MartletError {
    switch error {
    case let error as MartletError:
      return error
    case let error as HTTPError:
      return martletError(status: error.status)
    case is NIOTooManyBytesError:
      return MartletError(.tooLarge, "the request body is too large")
    case is HTTPParserError:
      return MartletError(.invalidRequest, "the request is not valid HTTP")
    default:
      return MartletError.wrapping(error)
    }
  }

  /// The response to a request whose head could not be parsed.
  static func parseError(isTooLarge: Bool) -> (HTTPResponse, ByteBuffer) {
    let error =
      isTooLarge
      ? MartletError(.tooLarge, "the request's header fields are too large; send fewer or shorter ones")
      : MartletError(.invalidRequest, "the request is not valid HTTP")
    var response = response(for: error)
    SecurityHeaders.add(to: &response.headers)
    return (response.head, JSONWriter.bytes(body(error)))
  }

  private static func martletError(status: HTTPResponse.Status) -> MartletError {
    switch status.code {
    case 404: MartletError(.notFound, "there is no such route; check the path against the REST API documentation")
    case 413: MartletError(.tooLarge, "the request body is too large")
    case 400..<500: MartletError(.invalidRequest, "the request is not valid")
    default: MartletError(.internalError, "an internal error occurred; the server's log has the details")
    }
  }
}

/// Responses with a JSON body.
enum JSONResponse {
  static func make(_ value: JSONValue, status: HTTPResponse.Status = .ok, headers: HTTPFields = [:]) -> Response {
    var headers = headers
    if headers.isEmpty { headers = SecurityHeaders.ofJSON } else { headers[.contentType] = "application/json" }
    return Response(status: status, headers: headers, body: ResponseBody(byteBuffer: JSONWriter.bytes(value)))
  }

  /// - Parameter bytes: an encoded JSON document.
  static func make(_ bytes: ByteBuffer) -> Response {
    Response(status: .ok, headers: SecurityHeaders.ofJSON, body: ResponseBody(byteBuffer: bytes))
  }

  static var noContent: Response { Response(status: .noContent) }
}
