import CLinux
import Glibc
package import LinuxSystem
package import SystemPackage

/// Configures the loopback interface and the link to the host from the kernel's command line.
package enum GuestNetwork {
  package static let hostLink = "eth0"
  /// The network driver is loaded earlier, but its link may appear a moment later.
  private static let linkDeadlineMilliseconds = 2_000
  private static let linkPollMilliseconds = 5

  package static func bringUp(_ commandLine: KernelCommandLine) throws(SystemError) {
    try check("link up", "lo") { martlet_guest_link_up("lo") }
    guard let network = commandLine.network else { return }
    try waitForLink()
    if let address = commandLine.linkAddress {
      // Drivers with a fixed address refuse this. The host then gives the link the right address.
      _ = martlet_guest_set_link_address(hostLink, address)
    }
    try check("set address", hostLink) {
      martlet_guest_set_address(hostLink, network.address.bigEndian, network.mask.bigEndian)
    }
    try check("link up", hostLink) { martlet_guest_link_up(hostLink) }
    guard let gateway = commandLine.gateway else { return }
    try check("default route", hostLink) { martlet_guest_add_default_route(hostLink, gateway.bigEndian) }
  }

  /// Replaces /etc/resolv.conf. Without name servers the image's file stays.
  package static func writeResolver(_ nameServers: [String], path: FilePath = "/etc/resolv.conf") throws(SystemError) {
    guard !nameServers.isEmpty else { return }
    try SmallFile.replace(path, with: Array(resolver(nameServers).utf8), mode: 0o644)
  }

  /// Content of resolv.conf(5).
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

  /// Throws unless `body` returned 0 or `EEXIST`: an address or route that exists already is the one of this command
  /// line.
  private static func check(_ call: String, _ subject: String, _ body: () -> Int32) throws(SystemError) {
    let result = body()
    guard result == 0 || -result == EEXIST else { throw SystemError(call, Errno(rawValue: -result), subject: subject) }
  }
}
