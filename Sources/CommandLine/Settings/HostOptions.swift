import APIClient

/// The address at which other control planes on a shared database reach this server's host agent.
package struct HostOptions: Sendable, Equatable {
  /// Any free port on loopback, for several servers on one machine.
  package static let standardListen = ListenAddress(host: "127.0.0.1", port: 0)
  /// Wildcard addresses, to which other machines cannot connect.
  private static let wildcards: Set<String> = ["0.0.0.0", "0", "*", "::", "::0", "0:0:0:0:0:0:0:0"]

  package var listen: ListenAddress
  /// The advertised address; nil for the listen address. Port 0 stands for the bound port.
  package var address: ListenAddress?

  package init(listen: ListenAddress = standardListen, address: ListenAddress? = nil) {
    self.listen = listen
    self.address = address
  }

  /// - Throws: `invalid_input` for settings without a shared database, and for wildcard addresses.
  init(settings: Settings, listen: String? = nil, address: String? = nil, database: DatabaseChoice) throws(APIError) {
    let listenText = settings.value(.hostListen, option: listen)
    let addressText = settings.value(.hostAddress, option: address)
    guard database.isShared || (listenText == nil && addressText == nil) else {
      throw APIError(
        .invalidInput,
        "MARTLET_HOST_LISTEN and MARTLET_HOST_ADDRESS need a shared PostgreSQL database; set DATABASE_URL "
          + "or unset them")
    }
    self.init()
    if let listenText { self.listen = try ListenAddress(listenText) }
    if let addressText { self.address = try ListenAddress(addressText) }
    guard !Self.wildcards.contains((self.address ?? self.listen).host) else {
      throw APIError(
        .invalidInput,
        "\((self.address ?? self.listen).host) is a wildcard address, to which other servers cannot connect; "
          + "give another with --host-address (MARTLET_HOST_ADDRESS), such as 10.0.0.5:0")
    }
  }

  /// - Parameter port: the bound port.
  package func advertised(port: Int) -> ListenAddress {
    guard let address else { return ListenAddress(host: listen.host, port: port) }
    return address.port == 0 ? ListenAddress(host: address.host, port: port) : address
  }
}
