import LinuxSystem
import Model
import SandboxNetwork
import SystemPackage
import Testing

extension KernelNetworkTests {
  @Suite("What a sandbox can reach")
  struct PolicyTests {
    @Test("The host reaches every port of the guest, the guest the internet, and DNS at the gateway over UDP and TCP")
    func reachable() async throws {
      try await Laboratory.with { laboratory in
        try await laboratory.networks.prepareHost()
        try await laboratory.startServers()
        let handle = try await laboratory.addSandbox(4_000)
        let inward = try await laboratory.probe(
          [
            "tcp:\(handle.hostAddress):\(GuestContract.agentPort)",
            "udp:\(handle.hostAddress):\(GuestContract.agentPort)",
          ],
          from: laboratory.host)
        #expect(inward.allSatisfy { $0.answer == GuestContract.gatewayAddress.description }, "\(inward)")
        let outward = try await laboratory.probe(
          [
            "tcp:\(Laboratory.internet):8080", "udp:\(Laboratory.internet):8080",
            "tcp:\(GuestContract.gatewayAddress):53",
            "udp:\(GuestContract.gatewayAddress):53",
          ], from: laboratory.guest(4_000))
        #expect(outward.allSatisfy { $0.answer == Laboratory.uplinkAddress }, "\(outward)")
      }
    }

    @Test("Other sandboxes, the host's listeners, metadata and private ranges refuse at once, over TCP and UDP")
    func refused() async throws {
      try await Laboratory.with { laboratory in
        try await laboratory.networks.prepareHost()
        try await laboratory.startServers()
        _ = try await laboratory.addSandbox(4_000)
        let other = try await laboratory.addSandbox(4_001)
        let agent = GuestContract.agentPort
        let hosts =
          [
            other.hostAddress.description, Laboratory.uplinkAddress, "10.200.62.129", "10.200.62.133", "169.254.0.22",
            "10.200.62.130",
          ]
          + Laboratory.privateAddresses
        let targets =
          hosts.flatMap { ["tcp:\($0):8080", "udp:\($0):8080", "tcp:\($0):\(agent)"] }
          + ["tcp:\(Laboratory.resolver):53", "udp:\(Laboratory.resolver):53", "tcp:\(Laboratory.uplinkAddress):53"]
        let probes = try await laboratory.probe(targets, from: laboratory.guest(4_000))
        for probe in probes { #expect(probe.isRefusedQuickly, "\(probe)") }
        // What was refused does answer the host: the refusals are the rules' doing.
        let control = try await laboratory.probe(
          ["tcp:\(Laboratory.uplinkAddress):8080", "tcp:\(other.hostAddress):\(agent)"]
            + Laboratory.privateAddresses.map { "tcp:\($0):8080" }, from: laboratory.host)
        #expect(control.allSatisfy { $0.outcome == "answered" }, "\(control)")
      }
    }

    @Test("The guest agent answers the host and nobody else")
    func agentIsPrivate() async throws {
      try await Laboratory.with { laboratory in
        try await laboratory.networks.prepareHost()
        let handle = try await laboratory.addSandbox(4_000)
        let agent = "tcp:\(handle.hostAddress):\(GuestContract.agentPort)"
        let outside = try await laboratory.probe([agent], from: laboratory.world)
        #expect(outside.allSatisfy { $0.outcome != "answered" }, "\(outside)")
        let host = try await laboratory.probe([agent], from: laboratory.host)
        #expect(host.allSatisfy { $0.outcome == "answered" }, "\(host)")
      }
    }

    @Test("A VMM that was taken over reaches nothing from its namespace, its guest included")
    func vmmIsContained() async throws {
      try await Laboratory.with { laboratory in
        try await laboratory.networks.prepareHost()
        try await laboratory.startServers()
        let handle = try await laboratory.addSandbox(4_000)
        let probes = try await laboratory.probe(
          [
            "tcp:\(Laboratory.internet):8080", "tcp:10.200.62.129:8080", "tcp:\(Laboratory.resolver):53",
            "tcp:169.254.0.21:49983",
          ],
          from: handle.namespacePath.string)
        #expect(probes.allSatisfy { $0.isRefusedQuickly }, "\(probes)")
      }
    }

    @Test("allow opens a private network, deny closes a public one, and allow beats deny")
    func lists() async throws {
      try await Laboratory.with { laboratory in
        try await laboratory.networks.prepareHost()
        try await laboratory.startServers()
        _ = try await laboratory.addSandbox(
          4_000, NetworkPolicy(allow: ["10.1.2.0/24", "169.254.0.0/16"], deny: ["93.184.0.0/16"]))
        _ = try await laboratory.addSandbox(
          4_001, NetworkPolicy(allow: [Laboratory.otherInternet], deny: ["0.0.0.0/0"]))
        let targets = ["10.1.2.3", Laboratory.internet, Laboratory.otherInternet, "169.254.169.254"].map {
          "tcp:\($0):8080"
        }
        let mixed = try await laboratory.probe(targets, from: laboratory.guest(4_000))
        #expect(mixed.map(\.outcome) == ["answered", "refused", "answered", "refused"])
        let limited = try await laboratory.probe(targets + ["udp:169.254.0.22:53"], from: laboratory.guest(4_001))
        #expect(limited.map(\.outcome) == ["refused", "refused", "answered", "refused", "answered"])
      }
    }

    @Test("Without egress everything is refused at once, DNS too, and the host still reaches the guest")
    func egressOff() async throws {
      try await Laboratory.with { laboratory in
        try await laboratory.networks.prepareHost()
        try await laboratory.startServers()
        let handle = try await laboratory.addSandbox(
          4_000, NetworkPolicy(allowsEgress: false, allow: [Laboratory.internet]))
        let probes = try await laboratory.probe(
          [
            "tcp:\(Laboratory.internet):8080", "udp:\(Laboratory.internet):8080", "udp:169.254.0.22:53",
            "tcp:169.254.0.22:53",
          ],
          from: laboratory.guest(4_000))
        #expect(probes.allSatisfy { $0.isRefusedQuickly }, "\(probes)")
        let inward = try await laboratory.probe(
          ["tcp:\(handle.hostAddress):\(GuestContract.agentPort)"], from: laboratory.host)
        #expect(inward.allSatisfy { $0.outcome == "answered" }, "\(inward)")
      }
    }

    @Test("Packets with a source address that is not the guest's do not leave")
    func spoofing() async throws {
      try await Laboratory.with { laboratory in
        try await laboratory.networks.prepareHost()
        try await laboratory.startServers()
        _ = try await laboratory.addSandbox(4_000)
        let sources = ["1.2.3.4", "10.200.62.133", Laboratory.uplinkAddress]
        for source in sources {
          try await laboratory.run("ip", ["addr", "add", "\(source)/32", "dev", "eth0"], in: laboratory.guest(4_000))
        }
        // A lost datagram says nothing, so the address that may leave is given several.
        var own: String?
        for _ in 0..<5 where own != "answered" {
          own = try await laboratory.probe(
            ["udp:\(Laboratory.internet):8080:169.254.0.21"], from: laboratory.guest(4_000)
          ).first?.outcome
        }
        #expect(own == "answered")
        let probes = try await laboratory.probe(
          sources.map { "udp:\(Laboratory.internet):8080:\($0)" }, from: laboratory.guest(4_000))
        #expect(probes.map(\.outcome) == ["silent", "silent", "silent"], "\(probes)")
      }
    }

    @Test("A resolver on the host itself answers on port 53, and the host on no other")
    func hostResolver() async throws {
      let configure: @Sendable (inout NetworkConfiguration) -> Void = {
        $0.upstreamResolver = IPv4Address(Laboratory.uplinkAddress)
      }
      try await Laboratory.with(configure: configure) { laboratory in
        try await laboratory.networks.prepareHost()
        try await laboratory.startServers()
        _ = try await laboratory.addSandbox(4_000)
        let probes = try await laboratory.probe(
          ["udp:169.254.0.22:53", "tcp:169.254.0.22:53", "tcp:\(Laboratory.uplinkAddress):8080"],
          from: laboratory.guest(4_000))
        #expect(probes.map(\.outcome) == ["answered", "answered", "refused"], "\(probes)")
      }
    }

    @Test("Connections above the bound are refused")
    func connectionLimit() async throws {
      try await Laboratory.with(configure: { $0.connectionLimit = 8 }) { laboratory in
        try await laboratory.networks.prepareHost()
        try await laboratory.startServers()
        _ = try await laboratory.addSandbox(4_000)
        let targets = (0..<24).map { _ in "udp:\(Laboratory.internet):8080" }
        let probes = try await laboratory.probe(targets, from: laboratory.guest(4_000))
        #expect(probes.contains { $0.outcome == "answered" } && probes.contains { $0.isRefusedQuickly }, "\(probes)")
      }
    }
  }
}
