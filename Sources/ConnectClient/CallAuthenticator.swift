package import AsyncHTTPClient
import Connect
package import NIOHTTP1

/// Authenticates calls to a server and the server's responses.
package protocol CallAuthenticator: Sendable {
  /// Signs one request.
  /// - Parameter target: path and query as in the request line.
  func prove(_ method: HTTPMethod, _ target: String) -> CallProof
}

/// The headers that authenticate one request, and the check of its response.
package struct CallProof: Sendable {
  package let headers: HTTPHeaders
  private let isGenuine: @Sendable (HTTPResponseStatus, HTTPHeaders) -> Bool

  package init(headers: HTTPHeaders, isGenuine: @escaping @Sendable (HTTPResponseStatus, HTTPHeaders) -> Bool) {
    self.headers = headers
    self.isGenuine = isGenuine
  }

  /// Checks that the response comes from the intended server. Call it before anything but the response's head is used.
  /// - Throws: `ConnectError` with code `unavailable` when the response is not authentic.
  package func check(_ response: HTTPClientResponse) throws {
    guard isGenuine(response.status, response.headers) else {
      throw ConnectError(
        .unavailable, "the answer (HTTP status \(response.status.code)) is not signed by the server that was called")
    }
  }
}
