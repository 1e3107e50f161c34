import Foundation
import LinuxSystem
import Model

/// A condition of the host that keeps sandbox networks from working, with the remedy. For `martlet doctor`.
package struct NetworkHint: Sendable, Equatable {
  package enum Severity: String, Sendable {
    /// Sandboxes cannot be created.
    case error
    /// Sandboxes can be created, but part of their network does not work.
    case warning
  }

  package let severity: Severity
  package let problem: String
  package let remedy: String

  package init(_ severity: Severity, _ problem: String, remedy: String) {
    self.severity = severity
    self.problem = problem
    self.remedy = remedy
  }
}

extension SandboxNetworks {
  /// Checks the host for conditions that commonly break sandbox networks. Changes nothing; works before
  /// `prepareHost()`. An empty result means that no problem was found.
  package func diagnose() async -> [NetworkHint] {
    var hints = await missingTools()
    if access("/dev/net/tun", R_OK | W_OK) != 0 {
      hints.append(
        .init(.error, "/dev/net/tun cannot be opened", remedy: "run as root; load the kernel module with: modprobe tun")
      )
    }
    // The other checks need these tools.
    guard hints.isEmpty else { return hints }
    hints += await firewallHints()
    hints += await clashes()
    if resolver == nil {
      hints.append(
        .init(
          .warning,
          "no DNS server that sandboxes can use was found in \(configuration.resolverFiles.joined(separator: " or "))",
          remedy: "name one that does not listen on a loopback address, in /etc/resolv.conf or in the configuration"))
    }
    return hints
  }

  private func missingTools() async -> [NetworkHint] {
    let packages = [
      ("ip", ["-V"], "iproute2"), ("nft", ["--version"], "nftables"), ("nsenter", ["--version"], "util-linux"),
    ]
    var hints: [NetworkHint] = []
    for (tool, arguments, package) in packages {
      guard (try? await perform(command(.inspect, tool, arguments))) == nil else { continue }
      hints.append(.init(.error, "the program \(tool) does not run", remedy: "apt-get install \(package)"))
    }
    return hints
  }

  private func firewallHints() async -> [NetworkHint] {
    guard let output = try? await perform(command(.inspect, "nft", ["-j", "list", "chains"])) else {
      return [.init(.error, "nft cannot list the host's firewall", remedy: "run as root, on a kernel with nf_tables")]
    }
    return FirewallListing.droppingForwardChains(json: output.outputText)
      .filter { $0.table != configuration.tableName }
      .map { chain in
        let links = "\(configuration.addressing.linkPrefix)+"
        return .init(
          .warning,
          "other software drops forwarded packets (table \(chain.family) \(chain.table), chain \(chain.name)), "
            + "so sandboxes may not reach the internet",
          remedy: "let sandboxes through there; with Docker: iptables -I DOCKER-USER -i \(links) -j ACCEPT && "
            + "iptables -I DOCKER-USER -o \(links) -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT")
      }
  }

  /// Routes and addresses of the host that overlap the range of the sandboxes: traffic to them would go to sandboxes,
  /// or the other way round. Those of this agent's own sandboxes do not count.
  package func clashes() async -> [NetworkHint] {
    let range = configuration.addressing.network
    // All tables: a VPN may have one of its own, and the table `local` holds the host's addresses.
    guard
      let output = try? await perform(command(.inspect, "ip", ["-4", "-json", "route", "show", "table", "all"]))
    else { return [] }
    let routes = RouteListing.routes(json: output.outputText).filter {
      configuration.addressing.slot(ofLink: $0.device) == nil
    }
    let remedy =
      SandboxNetworkRange.free(of: routes.map(\.network)).map {
        "choose another range with \(SandboxNetworkRange.option), such as \($0)"
      } ?? "choose another range with \(SandboxNetworkRange.option)"
    return routes.filter { $0.network.overlaps(range) }.map { route in
      .init(.error, "\(route.sentence) overlaps the range of the sandboxes, \(range)", remedy: remedy)
    }
  }
}

/// Output of `nft -j list chains`. Source: libnftables-json(5).
enum FirewallListing {
  struct Chain: Decodable, Equatable {
    var family: String
    var table: String
    var name: String
    var hook: String?
    var policy: String?
  }

  private struct Object: Decodable {
    var chain: Chain?
  }

  private struct Listing: Decodable {
    var nftables: [Object]
  }

  /// IPv4 base chains that drop forwarded packets unless another rule accepts them.
  static func droppingForwardChains(json: String) -> [Chain] {
    guard let listing = try? JSONDecoder().decode(Listing.self, from: Data(json.utf8)) else { return [] }
    return listing.nftables.compactMap(\.chain).filter {
      $0.hook == "forward" && $0.policy == "drop" && ["ip", "inet"].contains($0.family)
    }
  }
}

/// Output of `ip -json route show table all`. Default routes, broadcast and multicast addresses and what is not IPv4
/// are left out.
enum RouteListing {
  struct Route: Equatable {
    var network: IPv4Network
    var device: String
    /// Whether it is an address of the host itself.
    var isAddress = false

    var sentence: String {
      isAddress
        ? "the host's address \(network.address) on \(device)" : "the host's route to \(network) through \(device)"
    }
  }

  private struct Entry: Decodable {
    var type: String?
    var dst: String
    var dev: String?
  }

  static func routes(json: String) -> [Route] {
    guard let entries = try? JSONDecoder().decode([Entry].self, from: Data(json.utf8)) else { return [] }
    return entries.compactMap { entry in
      guard !["broadcast", "multicast"].contains(entry.type), let network = IPv4Network(entry.dst) else { return nil }
      return Route(network: network, device: entry.dev ?? "no device", isAddress: entry.type == "local")
    }
  }
}
