package import HostAPI
package import Model

/// The hosts that exist and how to talk to them.
package protocol HostDirectory: Sendable {
  /// Every host, those that are silent too.
  func hosts() async -> [any HostClient]
  func host(_ id: HostID) async -> (any HostClient)?
  /// Hosts that new sandboxes may go to.
  func placeableHosts() async -> [any HostClient]
}

extension HostDirectory {
  package func placeableHosts() async -> [any HostClient] { await hosts() }
}

/// Hosts that are known from the start and never change: the one in this process.
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
