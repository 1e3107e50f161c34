import Model

/// The networks that a guest may reach, derived from its policy.
///
/// Order of decision: `never` is refused, `allow` is accepted, `deny` and the private ranges are refused, the rest is
/// accepted. `allow` precedes `deny`, so that "only these networks" is `deny: ["0.0.0.0/0"]` with an `allow` list.
struct Egress: Equatable {
  /// Networks that no policy opens: loopback, link-local addresses (cloud metadata), and what cannot be routed. The
  /// sandbox network itself is added to them.
  static let unreachable = ["0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3"]

  /// Networks that are not part of the public internet.
  /// Source: IANA IPv4 Special-Purpose Address Registry, entries that are not globally reachable.
  static let privateNetworks = [
    "10.0.0.0/8", "100.64.0.0/10", "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16",
    "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24",
  ]

  /// When false, the guest reaches no network, whatever the lists contain.
  let isOn: Bool
  let never: [String]
  let allow: [String]
  let deny: [String]

  /// - Throws: `invalidPolicy` when an entry is not a network or there are too many.
  init(policy: NetworkPolicy, sandboxNetwork: IPv4Network) throws(NetworkError) {
    do {
      try policy.validate()
    } catch {
      throw NetworkError(.invalidPolicy(error.message))
    }
    isOn = policy.allowsEgress
    never = Self.unreachable + [sandboxNetwork.description]
    allow = try Self.normalized(policy.allow)
    deny = Self.privateNetworks + (try Self.normalized(policy.deny))
  }

  /// Rules contain only text that this type renders, never the caller's text.
  private static func normalized(_ networks: [String]) throws(NetworkError) -> [String] {
    var result: [String] = []
    for text in networks {
      guard let network = IPv4Network(text) else { throw NetworkError(.invalidPolicy("not an IPv4 network")) }
      result.append(network.description)
    }
    return result
  }
}
