import APIClient

/// Where other control planes on a shared database reach the host of this one.
package struct HostOptions: Sendable, Equatable {
  /// Any free port of loopback: for servers on one machine.
  package static let standardListen = ListenAddress(host: "127.0.0.1", port: 0)
  /// Addresses that mean all of a machine's, and to somebody elsewhere nothing.
  private static let wildcards: Set<String> = ["0.0.0.0", "0", "*", "::", "::0", "0:0:0:0:0:0:0:0"]

  package var listen: ListenAddress
  /// What others are told; nil is what is listened on, port 0 the port that is.
  package var address: ListenAddress?

  package init(listen: ListenAddress = standardListen, address: ListenAddress? = nil) {
    self.listen = listen
    self.address = address
  }

  /// - Throws: `invalid_input` for settings that do nothing, and for addresses that lead nowhere.
  init(settings: Settings, listen: String? = nil, address: String? = nil, database: DatabaseChoice) throws(APIError) {
    let listenText = settings.value(.hostListen, option: listen)
    let addressText = settings.value(.hostAddress, option: address)
    guard database.isShared || (listenText == nil && addressText == nil) else {
      throw APIError(
        .invalidInput,
        "MARTLET_HOST_LISTEN and MARTLET_HOST_ADDRESS are for servers that share a PostgreSQL; set DATABASE_URL, or leave them out"
      )
    }
    self.init()
    if let listenText { self.listen = try ListenAddress(listenText) }
    if let addressText { self.address = try ListenAddress(addressText) }
    guard !Self.wildcards.contains((self.address ?? self.listen).host) else {
      throw APIError(
        .invalidInput,
        "\((self.address ?? self.listen).host) is every address of this machine and none that other servers can reach it at; "
          + "name one with --host-address (MARTLET_HOST_ADDRESS), such as 10.0.0.5:0")
    }
  }

  /// - Parameter port: the one that is listened on.
  package func advertised(port: Int) -> ListenAddress {
    guard let address else { return ListenAddress(host: listen.host, port: port) }
    return address.port == 0 ? ListenAddress(host: address.host, port: port) : address
  }
}
