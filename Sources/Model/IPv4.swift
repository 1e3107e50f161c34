/// An IPv4 address.
package struct IPv4Address: Hashable, Sendable, CustomStringConvertible, Codable {
  /// Host byte order.
  package let value: UInt32

  package init(_ value: UInt32) {
    self.value = value
  }

  /// Parses exactly four decimal parts. Leading zeros are refused because other parsers read them as octal.
  package init?(_ text: String) {
    let parts = text.split(separator: ".", omittingEmptySubsequences: false)
    guard parts.count == 4 else { return nil }
    var value: UInt32 = 0
    for part in parts {
      guard (1...3).contains(part.utf8.count), part.utf8.allSatisfy({ (48...57).contains($0) }) else { return nil }
      guard part.utf8.count == 1 || part.utf8.first != 48, let number = UInt32(part), number <= 255 else { return nil }
      value = value << 8 | number
    }
    self.value = value
  }

  package var description: String {
    "\(value >> 24).\(value >> 16 & 255).\(value >> 8 & 255).\(value & 255)"
  }

  package init(from decoder: any Decoder) throws {
    let text = try decoder.singleValueContainer().decode(String.self)
    guard let address = Self(text) else {
      throw DecodingError.dataCorrupted(
        .init(codingPath: decoder.codingPath, debugDescription: "expected an IPv4 address"))
    }
    self = address
  }

  package func encode(to encoder: any Encoder) throws {
    var container = encoder.singleValueContainer()
    try container.encode(description)
  }
}

/// An IPv4 network in CIDR form; a bare address is a /32. Host bits must be zero.
package struct IPv4Network: Hashable, Sendable, CustomStringConvertible {
  package let address: IPv4Address
  package let prefixLength: Int

  package init?(_ text: String) {
    let parts = text.split(separator: "/", omittingEmptySubsequences: false)
    guard (1...2).contains(parts.count), let address = IPv4Address(String(parts[0])) else { return nil }
    var prefixLength = 32
    if parts.count == 2 {
      guard (1...2).contains(parts[1].utf8.count), parts[1].utf8.allSatisfy({ (48...57).contains($0) }),
        let number = Int(parts[1]), number <= 32
      else { return nil }
      prefixLength = number
    }
    let mask: UInt32 = prefixLength == 0 ? 0 : ~UInt32(0) << (32 - UInt32(prefixLength))
    guard address.value & ~mask == 0 else { return nil }
    self.address = address
    self.prefixLength = prefixLength
  }

  package var description: String { "\(address)/\(prefixLength)" }

  /// Whether some address is in both networks.
  package func overlaps(_ other: IPv4Network) -> Bool {
    let mask = Self.mask(min(prefixLength, other.prefixLength))
    return address.value & mask == other.address.value & mask
  }

  package func contains(_ other: IPv4Network) -> Bool {
    prefixLength <= other.prefixLength && overlaps(other)
  }

  package func contains(_ other: IPv4Address) -> Bool {
    other.value & Self.mask(prefixLength) == address.value
  }

  private static func mask(_ prefixLength: Int) -> UInt32 {
    prefixLength == 0 ? 0 : ~UInt32(0) << (32 - UInt32(prefixLength))
  }
}

/// The range of addresses that a host agent gives its sandboxes, four to each.
package struct SandboxNetworkRange: Sendable, Equatable, CustomStringConvertible {
  /// What the option is called in sentences about it.
  package static let option = "--network-range (MARTLET_NETWORK_RANGE)"
  /// Room for 16 to about four million sandboxes.
  package static let prefixLengths = 8...26
  /// RFC 1918, and RFC 6598 (shared address space).
  private static let privateRanges = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10"].compactMap {
    IPv4Network($0)
  }

  package let network: IPv4Network

  /// - Throws: `invalid_request` with the rule that `text` breaks.
  package init(_ text: String) throws(MartletError) {
    guard let network = IPv4Network(text) else {
      throw MartletError(
        .invalidRequest,
        "'\(text)' is not a range for \(Self.option); write the first address and the length, such as 10.100.0.0/16")
    }
    try self.init(network)
  }

  /// - Throws: `invalid_request` with the rule that `network` breaks.
  package init(_ network: IPv4Network) throws(MartletError) {
    guard Self.prefixLengths.contains(network.prefixLength) else {
      throw MartletError(
        .invalidRequest,
        "the range \(network) for \(Self.option) must be between a /\(Self.prefixLengths.lowerBound) and a "
          + "/\(Self.prefixLengths.upperBound)")
    }
    guard Self.privateRanges.contains(where: { $0.contains(network) }) else {
      throw MartletError(
        .invalidRequest,
        "the range \(network) for \(Self.option) is not private; it must lie in one of "
          + Self.privateRanges.map(\.description).joined(separator: ", "))
    }
    self.network = network
  }

  /// The range of an agent that is not given one: 10.(200+N).0.0/16.
  /// - Parameter agent: number of the agent on its machine, from 0 to 31.
  package static func standard(agent: Int) throws(MartletError) -> SandboxNetworkRange {
    try SandboxNetworkRange("10.\(200 + agent).0.0/16")
  }

  /// A range of the same kind that overlaps none of `taken`; nil when there is none among those that are tried.
  package static func free(of taken: [IPv4Network]) -> SandboxNetworkRange? {
    var candidates = (100..<200).reversed().map { "10.\($0).0.0/16" }
    candidates += (16..<32).map { "172.\($0).0.0/16" }
    candidates += ["192.168.128.0/17", "100.96.0.0/16"]
    return candidates.lazy.compactMap { try? SandboxNetworkRange($0) }.first { range in
      !taken.contains { $0.overlaps(range.network) }
    }
  }

  package var description: String { network.description }
}
