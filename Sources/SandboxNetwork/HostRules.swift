import Model

/// The nftables table in the host's namespace. Its size does not depend on the number of sandboxes, because it matches
/// the interface group of the sandbox links.
///
/// The rules do not affect packets that neither come from nor go to a sandbox. A packet passes only if every table of
/// the host accepts it, so these rules can refuse a packet but not override another firewall;
/// `SandboxNetworks.diagnose()` finds firewalls that drop sandbox traffic.
struct HostRules {
  let configuration: NetworkConfiguration
  let resolver: IPv4Address?

  /// Replaces the table in one transaction, so that rules are in force at every moment. Source: nft(8), "-f".
  var text: String {
    removal + """
      table inet \(configuration.tableName) {
        set resolvers { type ipv4_addr;\(resolver.map { " elements = { \($0) };" } ?? "") }
        chain antispoof {
          type filter hook prerouting priority raw; policy accept;
          iifgroup \(group) meta nfproto ipv6 drop
          iifgroup \(group) fib saddr . iif oif missing drop
        }
        chain input {
          type filter hook input priority filter - 10; policy accept;
          iifgroup \(group) jump from_sandbox
        }
        chain from_sandbox {
          ct state established,related accept
          ip daddr @resolvers meta l4proto { tcp, udp } th dport 53 accept
          jump refuse
        }
        chain forward {
          type filter hook forward priority filter - 10; policy accept;
          iifgroup \(group) jump egress
          oifgroup \(group) jump ingress
        }
        chain egress {
          ct state established,related accept
          oifgroup \(group) jump refuse
          ip daddr @resolvers meta l4proto { tcp, udp } th dport 53 accept
          ip daddr 169.254.0.0/16 jump refuse
          ip daddr \(network) jump refuse
          tcp flags syn tcp option maxseg size set rt mtu
          ip saddr \(network) accept
          drop
        }
        chain ingress {
          ct state established,related accept
          drop
        }
        chain outbound {
          type nat hook postrouting priority srcnat; policy accept;
          ip saddr \(network) oifgroup != \(group) masquerade
        }
      \(Self.refuseChain)
      }

      """
  }

  /// Removes the table; succeeds when it does not exist.
  var removal: String {
    "table inet \(configuration.tableName)\ndelete table inet \(configuration.tableName)\n"
  }

  static let refuseChain = """
      chain refuse {
        meta l4proto tcp reject with tcp reset
        reject with icmpx admin-prohibited
      }
    """

  private var group: UInt32 { configuration.linkGroup }
  private var network: IPv4Network { configuration.addressing.network }
}
