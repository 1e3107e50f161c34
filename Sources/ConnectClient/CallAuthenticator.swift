package import AsyncHTTPClient
import Connect
package import NIOHTTP1

/// Proves to a server who calls, and that whoever answers is that server.
package protocol CallAuthenticator: Sendable {
  /// - Parameter target: path and query, as they go into the request line.
  func prove(_ method: HTTPMethod, _ target: String) -> CallProof
}

/// What goes with one request, and what its answer is known by.
package struct CallProof: Sendable {
  package let headers: HTTPHeaders
  private let isGenuine: @Sendable (HTTPResponseStatus, HTTPHeaders) -> Bool

  package init(headers: HTTPHeaders, isGenuine: @escaping @Sendable (HTTPResponseStatus, HTTPHeaders) -> Bool) {
    self.headers = headers
    self.isGenuine = isGenuine
  }

  /// To be called before anything of the answer but its head is looked at.
  /// - Throws: `ConnectError` with code `unavailable`: the server that was meant has not answered.
  package func check(_ response: HTTPClientResponse) throws {
    guard isGenuine(response.status, response.headers) else {
      throw ConnectError(
        .unavailable, "the answer (HTTP status \(response.status.code)) is not signed by the server that was called")
    }
  }
}
