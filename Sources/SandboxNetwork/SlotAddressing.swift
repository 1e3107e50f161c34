import LinuxSystem
package import Model

/// Maps slots to names and addresses. A pure function: a slot always has the same ones.
///
/// Slot `n` owns the `n`-th /30 of `network`: the second address is the host's end of the veth pair, the third the
/// namespace's end. Names fit IFNAMSIZ (15 bytes) for every slot of a /8.
package struct SlotAddressing: Sendable, Equatable {
  /// Each slot takes four addresses.
  package static let slotPrefixLength = 30
  /// Name of the veth end inside every namespace.
  package static let innerLinkName = "veth0"

  /// The network that is divided into slots.
  package let network: IPv4Network
  package let namespacePrefix: String
  package let linkPrefix: String

  /// - Throws: `invalidConfiguration` when the network holds no slot or a prefix would give names that the kernel
  ///   refuses.
  package init(network: IPv4Network, namespacePrefix: String = "mrt-", linkPrefix: String = "mv") throws(NetworkError) {
    guard (8...Self.slotPrefixLength).contains(network.prefixLength) else {
      throw NetworkError(
        .invalidConfiguration("the sandbox network must be between a /8 and a /\(Self.slotPrefixLength)"))
    }
    guard Self.isPlain(namespacePrefix, limit: 32), Self.isPlain(linkPrefix, limit: 8) else {
      throw NetworkError(
        .invalidConfiguration("name prefixes must be 1 to 8 (links) or 32 (namespaces) letters, digits or '-'"))
    }
    self.network = network
    self.namespacePrefix = namespacePrefix
    self.linkPrefix = linkPrefix
  }

  /// Number of slots in the network.
  package var capacity: Int { 1 << (Self.slotPrefixLength - network.prefixLength) }

  /// - Throws: `slotOutOfRange`.
  package func address(of slot: Int) throws(NetworkError) -> SlotAddress {
    guard (0..<capacity).contains(slot) else { throw NetworkError(.slotOutOfRange(capacity: capacity), slot: slot) }
    let first = network.address.value + UInt32(slot) << 2
    return SlotAddress(
      slot: slot, namespaceName: namespacePrefix + String(slot), hostLinkName: linkPrefix + String(slot),
      hostSide: IPv4Address(first + 1), namespaceSide: IPv4Address(first + 2))
  }

  /// The slot whose namespace has this name, or nil when this configuration does not generate the name.
  package func slot(ofNamespace name: String) -> Int? {
    slot(name, prefix: namespacePrefix)
  }

  /// The slot whose host-side link has this name, or nil when this configuration does not generate the name.
  package func slot(ofLink name: String) -> Int? {
    slot(name, prefix: linkPrefix)
  }

  /// Accepts only the exact text that this type generates: `mrt-007` and `mrt-1x` belong to other software.
  private func slot(_ name: String, prefix: String) -> Int? {
    guard name.hasPrefix(prefix), let slot = Int(name.dropFirst(prefix.count)), (0..<capacity).contains(slot),
      name == prefix + String(slot)
    else { return nil }
    return slot
  }

  private static func isPlain(_ text: String, limit: Int) -> Bool {
    (1...limit).contains(text.utf8.count)
      && text.utf8.allSatisfy { byte in
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
          UInt8(ascii: "0")...UInt8(ascii: "9"),
          UInt8(ascii: "-"):
          true
        default: false
        }
      }
  }
}

/// The names and addresses of one slot.
package struct SlotAddress: Sendable, Equatable {
  package let slot: Int
  package let namespaceName: String
  /// The veth end in the host's namespace.
  package let hostLinkName: String
  package let hostSide: IPv4Address
  /// The address at which the host reaches the guest: each port is the guest's port of the same number.
  package let namespaceSide: IPv4Address

  /// The directory where ip-netns(8) keeps names.
  package static let namespaceDirectory = NetworkNamespace.directory
  package var namespacePath: String { "\(Self.namespaceDirectory)/\(namespaceName)" }
}
