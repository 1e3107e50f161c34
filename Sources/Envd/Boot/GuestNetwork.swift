import CLinux
import Glibc
package import LinuxSystem
package import SystemPackage

/// The `martlet.*` parameters that the host puts on the kernel's command line.
///
/// | parameter | meaning |
/// |---|---|
/// | `martlet.ip=169.254.0.21/30` | address and prefix length of eth0 |
/// | `martlet.gw=169.254.0.22` | default gateway |
/// | `martlet.mac=06:00:ac:10:00:02` | link address of eth0 |
/// | `martlet.dns=1.1.1.1,8.8.8.8` | name servers; without them /etc/resolv.conf is not changed |
///
/// The values come from the host; invalid ones are ignored and never trap.
package struct KernelCommandLine: Sendable, Equatable {
  package struct Network: Sendable, Equatable {
    /// In host byte order.
    package var address: UInt32
    package var prefixLength: Int

    package var mask: UInt32 { prefixLength == 0 ? 0 : ~0 << UInt32(32 - prefixLength) }
  }

  package var network: Network?
  package var gateway: UInt32?
  package var linkAddress: [UInt8]?
  package var nameServers: [String] = []

  /// - Parameter text: content of /proc/cmdline. The last one of repeated parameters counts.
  package init(_ text: String) {
    for word in text.split(whereSeparator: \.isWhitespace) {
      guard let separator = word.firstIndex(of: "=") else { continue }
      let value = word[word.index(after: separator)...]
      switch word[..<separator] {
      case "martlet.ip": network = Self.network(value)
      case "martlet.gw": gateway = Self.ipv4(value)
      case "martlet.mac": linkAddress = Self.mac(value)
      case "martlet.dns": nameServers = value.split(separator: ",").filter { Self.ipv4($0) != nil }.map(String.init)
      default: break
      }
    }
  }

  /// The four bytes of a dotted IPv4 address in host byte order.
  package static func ipv4(_ text: some StringProtocol) -> UInt32? {
    let parts = text.split(separator: ".", omittingEmptySubsequences: false)
    guard parts.count == 4 else { return nil }
    var address: UInt32 = 0
    for part in parts {
      guard let byte = UInt8(part) else { return nil }
      address = address << 8 | UInt32(byte)
    }
    return address
  }

  private static func network(_ text: Substring) -> Network? {
    let parts = text.split(separator: "/", omittingEmptySubsequences: false)
    guard parts.count == 2, let address = ipv4(parts[0]), let length = Int(parts[1]), (0...32).contains(length) else {
      return nil
    }
    return Network(address: address, prefixLength: length)
  }

  private static func mac(_ text: Substring) -> [UInt8]? {
    let parts = text.split(separator: ":", omittingEmptySubsequences: false)
    let bytes = parts.compactMap { $0.utf8.count == 2 ? UInt8($0, radix: 16) : nil }
    return parts.count == 6 && bytes.count == 6 ? bytes : nil
  }
}

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
