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
    hints += await routeHints()
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

  private func routeHints() async -> [NetworkHint] {
    let network = configuration.addressing.network
    guard let output = try? await perform(command(.inspect, "ip", ["-json", "route", "show", "table", "main"])) else {
      return []
    }
    return RouteListing.routes(json: output.outputText)
      .filter { configuration.addressing.slot(ofLink: $0.device) == nil && $0.network.overlaps(network) }
      .map { route in
        .init(
          .error,
          "the host's route to \(route.network) through \(route.device) overlaps the sandbox network \(network)",
          remedy: "choose another network for sandboxes")
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

/// Output of `ip -json route`. Default routes and what is not IPv4 are left out.
enum RouteListing {
  struct Route: Equatable {
    var network: IPv4Network
    var device: String
  }

  private struct Entry: Decodable {
    var dst: String
    var dev: String?
  }

  static func routes(json: String) -> [Route] {
    guard let entries = try? JSONDecoder().decode([Entry].self, from: Data(json.utf8)) else { return [] }
    return entries.compactMap { entry in
      guard let network = IPv4Network(entry.dst) else { return nil }
      return Route(network: network, device: entry.dev ?? "no device")
    }
  }
}

extension IPv4Network {
  func overlaps(_ other: IPv4Network) -> Bool {
    let shorter = UInt32(min(prefixLength, other.prefixLength))
    let mask: UInt32 = shorter == 0 ? 0 : ~UInt32(0) << (32 - shorter)
    return address.value & mask == other.address.value & mask
  }
}
