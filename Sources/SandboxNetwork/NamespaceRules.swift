import Model

/// The nftables rules of one sandbox's namespace; not even root in the guest can change them.
///
/// ```
/// host ── veth0 ──▶ inbound: to the guest, all ports        (from the host's end only)
/// guest ── tap0 ──▶ antispoof ▶ inbound: DNS to the upstream ▶ forward ▶ egress ▶ outbound ── veth0 ──▶ host's rules
/// the VMM itself (same namespace) ──▶ output: refused
/// ```
/// Refused packets get a response (TCP reset, ICMP "administratively prohibited"), so that senders do not wait for a
/// time-out.
struct NamespaceRules {
  let address: SlotAddress
  let egress: Egress
  let resolver: IPv4Address?
  let tableName: String
  let connectionLimit: Int

  var text: String {
    """
    table inet \(tableName) {
    \(set("never", egress.never))
    \(set("allow", egress.allow))
    \(set("deny", egress.deny))
      chain antispoof {
        type filter hook prerouting priority raw; policy accept;
        iifname "\(tap)" meta nfproto ipv6 drop
        iifname "\(tap)" ip saddr != \(guest) drop
      }
      chain inbound {
        type nat hook prerouting priority dstnat; policy accept;
        iifname "\(inner)" ip saddr \(address.hostSide) ip daddr \(address.namespaceSide) dnat ip to \(guest)
    \(nameService)
      }
      chain outbound {
        type nat hook postrouting priority srcnat; policy accept;
        oifname "\(inner)" snat ip to \(address.namespaceSide)
        oifname "\(tap)" snat ip to \(GuestContract.gatewayAddress)
      }
      chain forward {
        type filter hook forward priority filter; policy drop;
        ct state established,related accept
        ct state invalid drop
        iifname "\(inner)" oifname "\(tap)" ct status dnat accept
        iifname "\(tap)" oifname "\(inner)" jump egress
        jump refuse
      }
      chain egress {
    \(decision)
      }
      chain input {
        type filter hook input priority filter; policy drop;
        ct state established,related accept
        jump refuse
      }
      chain output {
        type filter hook output priority filter; policy drop;
        ct state established,related accept
        jump refuse
      }
    \(HostRules.refuseChain)
    }

    """
  }

  private var tap: String { GuestContract.tapName }
  private var inner: String { SlotAddressing.innerLinkName }
  private var guest: IPv4Address { GuestContract.guestAddress }

  /// The guest's resolver is the gateway. Without egress or without an upstream resolver the input chain refuses
  /// queries.
  private var nameService: String {
    guard egress.isOn, let resolver else { return "" }
    return """
          iifname "\(tap)" ip daddr \(GuestContract.gatewayAddress) meta l4proto { tcp, udp } th dport 53 \
      dnat ip to \(resolver)
      """
  }

  /// Only the DNS rule above rewrites packets from the guest, so `ct status dnat` matches DNS queries only.
  private var decision: String {
    guard egress.isOn else { return "    jump refuse" }
    return """
          ct count over \(connectionLimit) jump refuse
          ct status dnat accept
          ip daddr @never jump refuse
          ip daddr @allow accept
          ip daddr @deny jump refuse
          accept
      """
  }

  private func set(_ name: String, _ networks: [String]) -> String {
    let elements = networks.isEmpty ? "" : " elements = { \(networks.joined(separator: ", ")) };"
    return "  set \(name) { type ipv4_addr; flags interval; auto-merge;\(elements) }"
  }
}
