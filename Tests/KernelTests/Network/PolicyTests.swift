import LinuxSystem
import Model
import SandboxNetwork
import SystemPackage
import Testing

extension KernelNetworkTests {
  @Suite("What a sandbox can reach")
  struct PolicyTests {
    @Test("the host reaches every guest port; the guest reaches the internet, and DNS at the gateway over UDP and TCP")
    func reachable() async throws {
      try await NetworkFixture.with { fixture in
        try await fixture.networks.prepareHost()
        try await fixture.startServers()
        let handle = try await fixture.addSandbox(4_000)
        let inward = try await fixture.probe(
          [
            "tcp:\(handle.hostAddress):\(GuestContract.agentPort)",
            "udp:\(handle.hostAddress):\(GuestContract.agentPort)",
          ],
          from: fixture.host)
        #expect(inward.allSatisfy { $0.response == GuestContract.gatewayAddress.description }, "\(inward)")
        let outward = try await fixture.probe(
          [
            "tcp:\(NetworkFixture.internet):8080", "udp:\(NetworkFixture.internet):8080",
            "tcp:\(GuestContract.gatewayAddress):53",
            "udp:\(GuestContract.gatewayAddress):53",
          ], from: fixture.guest(4_000))
        #expect(outward.allSatisfy { $0.response == NetworkFixture.uplinkAddress }, "\(outward)")
      }
    }

    @Test("other sandboxes, host listeners, metadata and private ranges refuse at once, over TCP and UDP")
    func refused() async throws {
      try await NetworkFixture.with { fixture in
        try await fixture.networks.prepareHost()
        try await fixture.startServers()
        _ = try await fixture.addSandbox(4_000)
        let other = try await fixture.addSandbox(4_001)
        let agent = GuestContract.agentPort
        let hosts =
          [
            other.hostAddress.description, NetworkFixture.uplinkAddress, "10.200.62.129", "10.200.62.133",
            "169.254.0.22",
            "10.200.62.130",
          ]
          + NetworkFixture.privateAddresses
        let targets =
          hosts.flatMap { ["tcp:\($0):8080", "udp:\($0):8080", "tcp:\($0):\(agent)"] }
          + [
            "tcp:\(NetworkFixture.resolver):53", "udp:\(NetworkFixture.resolver):53",
            "tcp:\(NetworkFixture.uplinkAddress):53",
          ]
        let probes = try await fixture.probe(targets, from: fixture.guest(4_000))
        for probe in probes { #expect(probe.isRefusedQuickly, "\(probe)") }
        // The refused servers respond to the host, so the refusals come from the rules.
        let control = try await fixture.probe(
          ["tcp:\(NetworkFixture.uplinkAddress):8080", "tcp:\(other.hostAddress):\(agent)"]
            + NetworkFixture.privateAddresses.map { "tcp:\($0):8080" }, from: fixture.host)
        #expect(control.allSatisfy { $0.outcome == "responded" }, "\(control)")
      }
    }

    @Test("the guest agent responds only to the host")
    func agentIsPrivate() async throws {
      try await NetworkFixture.with { fixture in
        try await fixture.networks.prepareHost()
        let handle = try await fixture.addSandbox(4_000)
        let agent = "tcp:\(handle.hostAddress):\(GuestContract.agentPort)"
        let outside = try await fixture.probe([agent], from: fixture.outside)
        #expect(outside.allSatisfy { $0.outcome != "responded" }, "\(outside)")
        let host = try await fixture.probe([agent], from: fixture.host)
        #expect(host.allSatisfy { $0.outcome == "responded" }, "\(host)")
      }
    }

    @Test("a captured VMM reaches nothing from its namespace, including its guest")
    func vmmIsContained() async throws {
      try await NetworkFixture.with { fixture in
        try await fixture.networks.prepareHost()
        try await fixture.startServers()
        let handle = try await fixture.addSandbox(4_000)
        let probes = try await fixture.probe(
          [
            "tcp:\(NetworkFixture.internet):8080", "tcp:10.200.62.129:8080", "tcp:\(NetworkFixture.resolver):53",
            "tcp:169.254.0.21:49983",
          ],
          from: handle.namespacePath.string)
        #expect(probes.allSatisfy { $0.isRefusedQuickly }, "\(probes)")
      }
    }

    @Test("allow opens a private network, deny closes a public one, and allow precedes deny")
    func lists() async throws {
      try await NetworkFixture.with { fixture in
        try await fixture.networks.prepareHost()
        try await fixture.startServers()
        _ = try await fixture.addSandbox(
          4_000, NetworkPolicy(allow: ["10.1.2.0/24", "169.254.0.0/16"], deny: ["93.184.0.0/16"]))
        _ = try await fixture.addSandbox(
          4_001, NetworkPolicy(allow: [NetworkFixture.otherInternet], deny: ["0.0.0.0/0"]))
        let targets = ["10.1.2.3", NetworkFixture.internet, NetworkFixture.otherInternet, "169.254.169.254"].map {
          "tcp:\($0):8080"
        }
        let mixed = try await fixture.probe(targets, from: fixture.guest(4_000))
        #expect(mixed.map(\.outcome) == ["responded", "refused", "responded", "refused"])
        let limited = try await fixture.probe(targets + ["udp:169.254.0.22:53"], from: fixture.guest(4_001))
        #expect(limited.map(\.outcome) == ["refused", "refused", "responded", "refused", "responded"])
      }
    }

    @Test("without egress everything is refused at once, including DNS, and the host still reaches the guest")
    func egressOff() async throws {
      try await NetworkFixture.with { fixture in
        try await fixture.networks.prepareHost()
        try await fixture.startServers()
        let handle = try await fixture.addSandbox(
          4_000, NetworkPolicy(allowsEgress: false, allow: [NetworkFixture.internet]))
        let probes = try await fixture.probe(
          [
            "tcp:\(NetworkFixture.internet):8080", "udp:\(NetworkFixture.internet):8080", "udp:169.254.0.22:53",
            "tcp:169.254.0.22:53",
          ],
          from: fixture.guest(4_000))
        #expect(probes.allSatisfy { $0.isRefusedQuickly }, "\(probes)")
        let inward = try await fixture.probe(
          ["tcp:\(handle.hostAddress):\(GuestContract.agentPort)"], from: fixture.host)
        #expect(inward.allSatisfy { $0.outcome == "responded" }, "\(inward)")
      }
    }

    @Test("packets with a foreign source address do not leave")
    func spoofing() async throws {
      try await NetworkFixture.with { fixture in
        try await fixture.networks.prepareHost()
        try await fixture.startServers()
        _ = try await fixture.addSandbox(4_000)
        let sources = ["1.2.3.4", "10.200.62.133", NetworkFixture.uplinkAddress]
        for source in sources {
          try await fixture.run("ip", ["addr", "add", "\(source)/32", "dev", "eth0"], in: fixture.guest(4_000))
        }
        // A lost datagram is not reported, so the permitted address is tried several times.
        var own: String?
        for _ in 0..<5 where own != "responded" {
          own = try await fixture.probe(
            ["udp:\(NetworkFixture.internet):8080:169.254.0.21"], from: fixture.guest(4_000)
          ).first?.outcome
        }
        #expect(own == "responded")
        let probes = try await fixture.probe(
          sources.map { "udp:\(NetworkFixture.internet):8080:\($0)" }, from: fixture.guest(4_000))
        #expect(probes.map(\.outcome) == ["silent", "silent", "silent"], "\(probes)")
      }
    }

    @Test("a resolver on the host itself responds on port 53, and the host on no other port")
    func hostResolver() async throws {
      let configure: @Sendable (inout NetworkConfiguration) -> Void = {
        $0.upstreamResolver = IPv4Address(NetworkFixture.uplinkAddress)
      }
      try await NetworkFixture.with(configure: configure) { fixture in
        try await fixture.networks.prepareHost()
        try await fixture.startServers()
        _ = try await fixture.addSandbox(4_000)
        let probes = try await fixture.probe(
          ["udp:169.254.0.22:53", "tcp:169.254.0.22:53", "tcp:\(NetworkFixture.uplinkAddress):8080"],
          from: fixture.guest(4_000))
        #expect(probes.map(\.outcome) == ["responded", "responded", "refused"], "\(probes)")
      }
    }

    @Test("connections above the limit are refused")
    func connectionLimit() async throws {
      try await NetworkFixture.with(configure: { $0.connectionLimit = 8 }) { fixture in
        try await fixture.networks.prepareHost()
        try await fixture.startServers()
        _ = try await fixture.addSandbox(4_000)
        let targets = (0..<24).map { _ in "udp:\(NetworkFixture.internet):8080" }
        let probes = try await fixture.probe(targets, from: fixture.guest(4_000))
        #expect(probes.contains { $0.outcome == "responded" } && probes.contains { $0.isRefusedQuickly }, "\(probes)")
      }
    }
  }
}
