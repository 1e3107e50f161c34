import AsyncHTTPClient
import Connect
import ConnectClient
import Foundation
import Model
import NIOCore
import NIOHTTP1

/// The plain HTTP routes of the guest agent.
extension GuestClient {
  /// A request to a plain route. `path` is the route with its encoded query.
  func plainRequest(_ method: HTTPMethod, _ path: String) -> HTTPClientRequest {
    var request = HTTPClientRequest(url: baseURL + path)
    request.method = method
    request.headers = headers()
    return request
  }

  /// Sends a short request and reads the short response.
  func perform(_ request: HTTPClientRequest, within limit: Duration, _ call: GuestCall) async throws -> ByteBuffer {
    try await guestCall(call) {
      try await withTimeLimit(
        limit, throwing: ConnectError(.deadlineExceeded, "the guest agent did not respond in time")
      ) {
        let response = try await httpClient.execute(request, deadline: .distantFuture)
        let body = try await response.body.collect(upTo: limits.plainResponseBytes)
        guard (200..<300).contains(response.status.code) else { throw Self.refusal(response.status, body, call) }
        return body
      }
    }
  }

  /// Makes the error of a plain route from its JSON `{"code","message"}`.
  static func refusal(_ status: HTTPResponseStatus, _ body: ByteBuffer, _ call: GuestCall) -> MartletError {
    let error = try? JSONDecoder().decode(PlainError.self, from: Data(body.readableBytesView))
    let code = GuestErrors.code(httpStatus: Int(status.code), call)
    return GuestErrors.refusal(code, error?.message ?? "the guest agent responded with HTTP status \(status.code)")
  }

  /// Encodes a query value; everything that is not unreserved in RFC 3986 is escaped.
  static func queryValue(_ text: String) -> String {
    text.addingPercentEncoding(withAllowedCharacters: unreserved) ?? ""
  }

  private static let unreserved = CharacterSet(
    charactersIn: "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
}

private struct PlainError: Decodable {
  let message: String
}
