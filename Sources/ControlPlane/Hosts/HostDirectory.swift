package import HostAPI
package import Model

/// The registered hosts and their clients.
package protocol HostDirectory: Sendable {
  /// All hosts, including unresponsive ones.
  func hosts() async -> [any HostClient]
  func host(_ id: HostID) async -> (any HostClient)?
  /// Hosts on which new sandboxes may be placed.
  func placeableHosts() async -> [any HostClient]
}

extension HostDirectory {
  package func placeableHosts() async -> [any HostClient] { await hosts() }
}

/// A constant set of hosts, such as the one in this process.
package struct FixedHosts: HostDirectory {
  private let clients: [any HostClient]

  package init(_ clients: [any HostClient]) {
    self.clients = clients
  }

  package func hosts() async -> [any HostClient] { clients }

  package func host(_ id: HostID) async -> (any HostClient)? {
    clients.first { $0.hostID == id }
  }
}
