package import AsyncHTTPClient
import Connect
package import NIOHTTP1

/// Authenticates calls to a server and the server's responses.
package protocol CallAuthenticator: Sendable {
  /// Signs one request.
  /// - Parameter target: path and query as in the request line.
  func sign(_ method: HTTPMethod, _ target: String) -> CallProof
}

/// The headers that authenticate one request, and the check of its response.
package struct CallProof: Sendable {
  package let headers: HTTPHeaders
  private let isAuthentic: @Sendable (HTTPResponseStatus, HTTPHeaders) -> Bool

  package init(headers: HTTPHeaders, isAuthentic: @escaping @Sendable (HTTPResponseStatus, HTTPHeaders) -> Bool) {
    self.headers = headers
    self.isAuthentic = isAuthentic
  }

  /// Checks that the response comes from the intended server. Call it before anything but the response's head is used.
  /// - Throws: `ConnectError` with code `unavailable` when the response is not authentic.
  package func check(_ response: HTTPClientResponse) throws {
    guard isAuthentic(response.status, response.headers) else {
      throw ConnectError(
        .unavailable, "the response (HTTP status \(response.status.code)) is not signed by the called server")
    }
  }
}
