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
}
