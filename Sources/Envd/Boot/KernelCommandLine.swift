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
