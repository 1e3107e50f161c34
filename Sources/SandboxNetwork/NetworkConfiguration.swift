package import Model
package import SystemPackage

/// Addresses, names and limits of a host's sandbox networks. Two host agents on one machine must differ in network,
/// prefixes, link group and table name.
package struct NetworkConfiguration: Sendable {
  package var addressing: SlotAddressing
  /// Interface group of all host-side links. The host's rules match the group instead of naming links, so the number of
  /// rules does not grow with the number of sandboxes. Source: ip-link(8), `group`.
  package var linkGroup: UInt32 = 27_990
  /// Name of the nftables table, in the host's namespace and in every sandbox's.
  package var tableName = "martlet"
  /// The DNS server that guests' queries are forwarded to; nil means the first usable one in `resolverFiles`.
  package var upstreamResolver: IPv4Address?
  /// resolv.conf(5) files in order of preference.
  package var resolverFiles = UpstreamResolver.standardFiles
  /// Connections that one sandbox may have open; further ones are refused. Bounds a guest's share of the host's
  /// connection tracking table.
  package var connectionLimit = 4_096
  /// Deadline of each command. Commands take milliseconds; only a stuck kernel or an overloaded machine comes near it.
  package var commandDeadline: Duration = .seconds(20)

  package init(addressing: SlotAddressing) {
    self.addressing = addressing
  }
}

/// The network of a sandbox, as the host agent uses it.
package struct NetworkHandle: Sendable, Codable, Equatable {
  package var slot: Int
  /// Path of the network namespace in which the VMM is started.
  package var namespacePath: FilePath
  /// Address at which the host, and only the host, reaches the guest's ports.
  package var hostAddress: IPv4Address
  package var tapName: String

  package init(slot: Int, namespacePath: FilePath, hostAddress: IPv4Address, tapName: String) {
    self.slot = slot
    self.namespacePath = namespacePath
    self.hostAddress = hostAddress
    self.tapName = tapName
  }
}
