import HTTPTypes
import Hummingbird

/// Where a request comes from, as far as it can be told.
package struct ClientAddress: Sendable, Equatable {
  /// Nil when the connection is gone already.
  package var address: String?
  /// Whether the client speaks TLS (with a proxy in front of us).
  package var isSecure: Bool

  /// Whether the other end is a program on this machine.
  var isLoopback: Bool {
    guard let address else { return false }
    return address == "::1" || address.hasPrefix("127.") || address.hasPrefix("::ffff:127.")
  }
}

/// Finds out for whom a proxy asks; nobody else is believed.
struct ClientMiddleware: RouterMiddleware {
  /// A list longer than this was not made by proxies.
  private static let maximumHops = 16

  let trustedProxies: Set<String>

  func handle(
    _ request: Request, context: APIContext, next: (Request, APIContext) async throws -> Response
  ) async throws -> Response {
    guard let peer = context.client.address, trustedProxies.contains(peer) else { return try await next(request, context) }
    var context = context
    context.client = ClientAddress(
      address: origin(request.headers[values: .forwardedFor]) ?? peer, isSecure: request.headers[.forwardedProtocol] == "https")
    return try await next(request, context)
  }

  /// The last address that is no proxy of ours: those before it are what the client claims.
  private func origin(_ values: [String]) -> String? {
    let hops = values.joined(separator: ",").split(separator: ",").suffix(Self.maximumHops).map { text in
      String(text.trimmingPrefix { $0 == " " }.prefix { $0 != " " })
    }
    guard let origin = hops.last(where: { !trustedProxies.contains($0) }), Self.isAddress(origin) else { return nil }
    return origin
  }

  private static func isAddress(_ text: String) -> Bool {
    (2...45).contains(text.utf8.count) && text.utf8.allSatisfy { Character(Unicode.Scalar($0)).isHexDigit || $0 == 0x3A || $0 == 0x2E }
  }
}
