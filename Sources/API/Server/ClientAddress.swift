import Glibc
import HTTPTypes
import Hummingbird

/// Where a request comes from, as far as it can be told.
package struct ClientAddress: Sendable, Equatable {
  /// Nil when the connection is gone already.
  package var address: String?
  /// Whether the client speaks TLS (with a proxy in front of us).
  package var isSecure: Bool
  /// Whether a proxy of ours stands between.
  package var isProxied = false

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
      address: origin(request.headers[values: .forwardedFor]) ?? peer,
      isSecure: request.headers[.forwardedProtocol] == "https",
      isProxied: true)
    return try await next(request, context)
  }

  /// The last address that is no proxy of ours: those before it are what the client claims.
  private func origin(_ values: [String]) -> String? {
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

/// Addresses as text, one text for each address.
enum IPAddressText {
  private static let mappedPrefix: [UInt8] = Array(repeating: 0, count: 10) + [0xff, 0xff]

  /// The shortest form; an IPv4 address that is written as IPv6 (`::ffff:10.0.0.5`) in its own. Nil when `text` is no
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
