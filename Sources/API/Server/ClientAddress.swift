import Glibc
import HTTPTypes
import Hummingbird

/// The network address of a request's client, as far as it is known.
package struct ClientAddress: Sendable, Equatable {
  /// Nil if the connection has already closed.
  package var address: String?
  /// Whether the client uses TLS; only a trusted proxy can report that.
  package var isSecure: Bool
  /// Whether a trusted proxy forwarded the request.
  package var isProxied = false

  /// Whether the address is a loopback address.
  var isLoopback: Bool {
    guard let address else { return false }
    return address == "::1" || address.hasPrefix("127.") || address.hasPrefix("::ffff:127.")
  }
}

/// Takes the client's address from `X-Forwarded-For` if the request comes from a trusted proxy, and ignores the header
/// otherwise.
struct ClientMiddleware: RouterMiddleware {
  /// Number of `X-Forwarded-For` entries that are examined, from the end.
  private static let maximumHops = 16

  private let trustedProxies: Set<String>

  init(trustedProxies: Set<String>) {
    self.trustedProxies = Set(trustedProxies.map { IPAddressText.normal($0) ?? $0 })
  }

  func handle(
    _ request: Request, context: APIContext, next: (Request, APIContext) async throws -> Response
  ) async throws -> Response {
    guard let peer = context.client.address.flatMap(IPAddressText.normal), trustedProxies.contains(peer) else {
      return try await next(request, context)
    }
    var context = context
    context.client = ClientAddress(
      address: clientAddress(request.headers[values: .forwardedFor]) ?? peer,
      isSecure: request.headers[.forwardedProtocol] == "https",
      isProxied: true)
    return try await next(request, context)
  }

  /// The last address that is not a trusted proxy. The client may have invented the entries before it.
  private func clientAddress(_ values: [String]) -> String? {
    let hops = values.joined(separator: ",").split(separator: ",").suffix(Self.maximumHops).map { text in
      String(text.trimmingPrefix { $0 == " " }.prefix { $0 != " " })
    }
    for hop in hops.reversed() {
      guard let address = IPAddressText.normal(hop) else { return nil }
      if !trustedProxies.contains(address) { return address }
    }
    return nil
  }
}

/// Normalizes the text form of IP addresses.
enum IPAddressText {
  private static let mappedPrefix: [UInt8] = Array(repeating: 0, count: 10) + [0xff, 0xff]

  /// The shortest text form; an IPv4-mapped IPv6 address (`::ffff:10.0.0.5`) becomes IPv4. Nil if `text` is not an
  /// address.
  static func normal(_ text: String) -> String? {
    let plain = String(text.prefix { $0 != "%" })
    var four = in_addr()
    if inet_pton(AF_INET, plain, &four) == 1 { return plain }
    var six = in6_addr()
    guard inet_pton(AF_INET6, plain, &six) == 1 else { return nil }
    let bytes = withUnsafeBytes(of: six) { Array($0) }
    if bytes.starts(with: mappedPrefix) { return bytes.suffix(4).map(String.init).joined(separator: ".") }
    var shortest = [CChar](repeating: 0, count: Int(INET6_ADDRSTRLEN))
    guard inet_ntop(AF_INET6, &six, &shortest, socklen_t(shortest.count)) != nil else { return nil }
    return shortest.withUnsafeBufferPointer { $0.baseAddress.map { String(cString: $0) } }
  }
}
