import Model

/// The `ip -batch` input that makes one sandbox's links. Source: ip(8), `-batch`.
struct NamespaceBatch {
  let address: SlotAddress
  let linkGroup: UInt32
  /// User that may open the TAP.
  let ownerUID: UInt32

  /// For the host's namespace. The order is that of `creations`.
  ///
  /// The link gets its group with its birth, so that it is never outside of the host's rules.
  var outside: String {
    lines([
      "netns add \(address.namespaceName)",
      "link add \(address.hostLinkName) group \(linkGroup) type veth peer name \(SlotAddressing.innerLinkName) netns \(address.namespaceName)",
      "link set \(address.hostLinkName) addrgenmode none",
      "addr add \(address.hostSide)/\(SlotAddressing.slotPrefixLength) dev \(address.hostLinkName)",
      "link set \(address.hostLinkName) up",
    ])
  }

  /// What the first lines of `outside` make, and so what is to be undone when a later line fails.
  static let creations: [NetworkStep] = [.removeNamespace, .removeLink]

  /// For the sandbox's namespace.
  ///
  /// The TAP has the same address in every namespace and knows the guest's, so that neither side of a restored guest
  /// waits for its neighbour cache.
  var inside: String {
    let tap = GuestContract.tapName
    let inner = SlotAddressing.innerLinkName
    return lines([
      "link set lo up",
      "link set \(inner) addrgenmode none",
      "addr add \(address.namespaceSide)/\(SlotAddressing.slotPrefixLength) dev \(inner)",
      "link set \(inner) up",
      "tuntap add dev \(tap) mode tap user \(ownerUID) vnet_hdr",
      "link set \(tap) address \(GuestContract.gatewayMAC) addrgenmode none",
      "addr add \(GuestContract.gatewayAddress)/\(GuestContract.prefixLength) dev \(tap)",
      "link set \(tap) up",
      "neigh replace \(GuestContract.guestAddress) lladdr \(GuestContract.guestMAC) nud permanent dev \(tap)",
      "route add default via \(address.hostSide)",
    ])
  }

  /// Kernel parameters of the sandbox's namespace, to be written before its links come up.
  ///
  /// Without the limit on ICMP errors, which may only go to the guest, refusals of UDP reach it at once.
  static let parameters = [
    KernelParameter("ipv6/conf/all/disable_ipv6", "1"),
    KernelParameter("ipv6/conf/default/disable_ipv6", "1"),
    KernelParameter("ipv4/conf/all/rp_filter", "1"),
    KernelParameter("ipv4/conf/all/accept_redirects", "0"),
    KernelParameter("ipv4/conf/all/send_redirects", "0"),
    KernelParameter("ipv4/conf/default/send_redirects", "0"),
    KernelParameter("ipv4/icmp_ratelimit", "0"),
    KernelParameter("ipv4/ip_forward", "1"),
  ]

  private func lines(_ commands: [String]) -> String {
    commands.joined(separator: "\n") + "\n"
  }

  /// How many lines of a batch were carried out before the one that failed; nil when `ip` did not say.
  ///
  /// Source: iproute2 lib/utils.c, do_batch(): `Command failed NAME:LINE`.
  static func completedLines(errorText: String) -> Int? {
    for line in errorText.split(separator: "\n") where line.hasPrefix("Command failed ") {
      guard let number = line.split(separator: ":").last.flatMap({ Int($0) }), number >= 1 else { return nil }
      return number - 1
    }
    return nil
  }
}
