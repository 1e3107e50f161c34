import CLinux
import Glibc
package import LinuxSystem
package import SystemPackage

/// Brings the loopback and the link to the host up, as the kernel's command line says.
package enum GuestNetwork {
  package static let hostLink = "eth0"
  /// The network driver is loaded before us; its link may appear a moment later.
  private static let linkDeadlineMilliseconds = 2_000
  private static let linkPollMilliseconds = 5

  package static func bringUp(_ commandLine: KernelCommandLine) throws(SystemError) {
    try check("link up", "lo") { martlet_guest_link_up("lo") }
    guard let network = commandLine.network else { return }
    try waitForLink()
    if let address = commandLine.linkAddress {
      // Refused by drivers whose address is fixed; the host gives the link the right one anyway.
      _ = martlet_guest_set_link_address(hostLink, address)
    }
    try check("set address", hostLink) {
      martlet_guest_set_address(hostLink, network.address.bigEndian, network.mask.bigEndian)
    }
    try check("link up", hostLink) { martlet_guest_link_up(hostLink) }
    guard let gateway = commandLine.gateway else { return }
    try check("default route", hostLink) { martlet_guest_add_default_route(hostLink, gateway.bigEndian) }
  }

  /// Replaces /etc/resolv.conf; without name servers it stays what the image says.
  package static func writeResolver(_ nameServers: [String], path: FilePath = "/etc/resolv.conf") throws(SystemError) {
    guard !nameServers.isEmpty else { return }
    try SmallFile.replace(path, with: Array(resolver(nameServers).utf8), mode: 0o644)
  }

  /// Source: resolv.conf(5).
  package static func resolver(_ nameServers: [String]) -> String {
    nameServers.map { "nameserver \($0)\n" }.joined()
  }

  private static func waitForLink() throws(SystemError) {
    var waited = 0
    while true {
      let result = martlet_guest_link_exists(hostLink)
      if result == 0 { return }
      guard waited < linkDeadlineMilliseconds else {
        throw SystemError("find link", Errno(rawValue: -result), subject: hostLink)
      }
      usleep(UInt32(linkPollMilliseconds) * 1_000)
      waited += linkPollMilliseconds
    }
  }

  /// An existing route or address is fine: whoever set it meant the same.
  private static func check(_ call: String, _ subject: String, _ body: () -> Int32) throws(SystemError) {
    let result = body()
    guard result == 0 || -result == EEXIST else { throw SystemError(call, Errno(rawValue: -result), subject: subject) }
  }
}
