import Model

/// The `ip -batch` input that makes one sandbox's links. Source: ip(8), `-batch`.
struct NamespaceBatch {
  let address: SlotAddress
  let linkGroup: UInt32
  /// User id that may open the TAP device.
  let ownerUID: UInt32

  /// Commands for the host's namespace, in the order of `creations`.
  ///
  /// The link is created with its group, so that the host's rules apply to it from the start.
  var outside: String {
    lines([
      "netns add \(address.namespaceName)",
      "link add \(address.hostLinkName) group \(linkGroup) type veth "
        + "peer name \(SlotAddressing.innerLinkName) netns \(address.namespaceName)",
      "link set \(address.hostLinkName) addrgenmode none",
      "addr add \(address.hostSide)/\(SlotAddressing.slotPrefixLength) dev \(address.hostLinkName)",
      "link set \(address.hostLinkName) up",
    ])
  }

  /// Undo steps of the first lines of `outside`: if a later line fails, these are performed.
  static let creations: [NetworkStep] = [.removeNamespace, .removeLink]

  /// Commands for the sandbox's namespace.
  ///
  /// The TAP device has the same address in every namespace, and a permanent neighbour entry for the guest, so that a
  /// restored guest and its gateway do not wait for address resolution.
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

  /// Kernel parameters of the sandbox's namespace, written before its links come up.
  ///
  /// ICMP errors are not rate-limited: they go to the guest only, and refusals of UDP packets then reach it at once.
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

  /// Number of lines that a batch completed before the one that failed; nil when `ip` did not report it.
  static func completedLines(errorText: String) -> Int? {
    for line in errorText.split(separator: "\n") where line.hasPrefix("Command failed ") {
      guard let number = line.split(separator: ":").last.flatMap({ Int($0) }), number >= 1 else { return nil }
      return number - 1
    }
    return nil
  }
}
