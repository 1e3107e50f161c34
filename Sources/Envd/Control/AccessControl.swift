import CLinux
import Glibc
import HTTPTypes
package import Hummingbird
package import NIOCore

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

/// Decides whether a peer may use the routes that are reserved for the host.
///
/// As process 1 of a guest, the agent refuses every peer inside the guest: peers with an address of the guest itself,
/// and peers in a network on another link than the one to the host (containers and namespaces inside the guest).
package struct PeerPolicy: Sendable {
  /// An address of a link, in host byte order.
  package struct LinkAddress: Sendable, Equatable {
    package var link: String
    package var address: UInt32
    package var mask: UInt32

    package init(link: String, address: UInt32, mask: UInt32) {
      self.link = link
      self.address = address
      self.mask = mask
    }
  }

  private static let loopbackNetwork: UInt32 = 127 << 24
  private static let loopbackMask: UInt32 = 255 << 24

  private let hostLink: String?
  private let linkAddresses: @Sendable () -> [LinkAddress]

  /// - Parameter hostLink: the link to the host; nil admits every peer (not process 1).
  package init(hostLink: String?, linkAddresses: @escaping @Sendable () -> [LinkAddress] = PeerPolicy.currentAddresses)
  {
    self.hostLink = hostLink
    self.linkAddresses = linkAddresses
  }

  package func admits(_ peer: SocketAddress?) -> Bool {
    guard let hostLink else { return true }
    guard let address = peer?.ipAddress.flatMap(KernelCommandLine.ipv4),
      address & Self.loopbackMask != Self.loopbackNetwork
    else {
      return false
    }
    return !linkAddresses().contains { own in
      own.address == address || (own.link != hostLink && own.address & own.mask == address & own.mask)
    }
  }

  /// The current IPv4 addresses of the guest's links. Source: getifaddrs(3).
  package static func currentAddresses() -> [LinkAddress] {
    var first: UnsafeMutablePointer<ifaddrs>?
    guard getifaddrs(&first) == 0 else { return [] }
    defer { freeifaddrs(first) }
    return sequence(first: first) { $0?.pointee.ifa_next }.prefix { $0 != nil }.compactMap {
      $0.flatMap(Self.linkAddress)
    }
  }

  private static func linkAddress(_ entry: UnsafeMutablePointer<ifaddrs>) -> LinkAddress? {
    var address: UInt32 = 0
    var mask: UInt32 = 0
    guard let name = entry.pointee.ifa_name, martlet_guest_ipv4(entry.pointee.ifa_addr, &address) == 0,
      martlet_guest_ipv4(entry.pointee.ifa_netmask, &mask) == 0
    else { return nil }
    return LinkAddress(link: String(cString: name), address: address, mask: mask)
  }
}
