import HTTPTypes
package import Hummingbird

/// The sandbox's access token in requests.
package enum AccessToken {
  package static let headerName = "X-Access-Token"

  package static func presented(in request: Request) -> String? {
    HTTPField.Name(headerName).flatMap { request.headers[$0] }
  }

  /// Compares in a time that depends only on the length of `presented`.
  package static func matches(_ presented: String?, _ expected: String) -> Bool {
    guard let presented else { return false }
    let given = Array(presented.utf8)
    let wanted = Array(expected.utf8)
    var difference = UInt8(given.count == wanted.count ? 0 : 1)
    for (index, byte) in given.enumerated() { difference |= byte ^ (wanted.isEmpty ? 0 : wanted[index % wanted.count]) }
    return difference == 0 && !wanted.isEmpty
  }
}

/// Refuses requests without the token once one is set. `/health` is open; `/files` and `/init` check the token
/// themselves. Source: E2B's envd contract
package struct TokenMiddleware: RouterMiddleware {
  package typealias Context = AgentRequestContext

  private static let exemptPaths: Set<String> = ["/health", "/files", "/init"]

  private let state: GuestState

  package init(state: GuestState) {
    self.state = state
  }

  package func handle(
    _ request: Request, context: AgentRequestContext, next: (Request, AgentRequestContext) async throws -> Response
  ) async throws -> Response {
    if let token = state.accessToken, !Self.exemptPaths.contains(request.uri.path),
      !AccessToken.matches(AccessToken.presented(in: request), token)
    {
      throw AgentError(.unauthorized, "unauthorized: the \(AccessToken.headerName) header is missing or wrong")
    }
    return try await next(request, context)
  }
}
