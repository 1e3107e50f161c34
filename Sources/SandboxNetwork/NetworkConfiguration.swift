package import Model
package import SystemPackage

/// How a host's sandbox networks are laid out. Two agents on one machine must differ in network, prefixes, group and
/// table.
package struct NetworkConfiguration: Sendable {
  package var addressing: SlotAddressing
  /// Interface group of all host-side links; the host's rules match it instead of naming links, so their number does
  /// not grow with the number of sandboxes. Source: ip-link(8), `group`.
  package var linkGroup: UInt32 = 27_990
  /// Name of the nftables table, in the host's namespace and in every sandbox's.
  package var tableName = "martlet"
  /// The DNS server that guests' queries go to; nil: the first usable one of `resolverFiles`.
  package var upstreamResolver: IPv4Address?
  /// resolv.conf(5) files in order of preference.
  package var resolverFiles = UpstreamResolver.standardFiles
  /// Connections one sandbox may have open; more are refused. It bounds what a guest takes of the host's connection
  /// table.
  package var connectionLimit = 4_096
  /// Bound on each command; commands take milliseconds, so only a stuck kernel or an overloaded machine comes near.
  package var commandDeadline: Duration = .seconds(20)

  package init(addressing: SlotAddressing) {
    self.addressing = addressing
  }

  /// The defaults of docs/specification.md: 16,384 slots in 10.200.0.0/16.
  package static func standard() throws(NetworkError) -> NetworkConfiguration {
    guard let network = SlotAddressing.defaultNetwork else {
      throw NetworkError(.invalidConfiguration("the default network is malformed"))
    }
    return NetworkConfiguration(addressing: try SlotAddressing(network: network))
  }
}

/// What the sandbox's owner needs to know about its network.
package struct NetworkHandle: Sendable, Codable, Equatable {
  package var slot: Int
  /// The VMM is started in this namespace.
  package var namespacePath: FilePath
  /// Where the host, and nobody else, reaches the guest's ports.
  package var hostAddress: IPv4Address
  package var tapName: String

  package init(slot: Int, namespacePath: FilePath, hostAddress: IPv4Address, tapName: String) {
    self.slot = slot
    self.namespacePath = namespacePath
    self.hostAddress = hostAddress
    self.tapName = tapName
  }
}
