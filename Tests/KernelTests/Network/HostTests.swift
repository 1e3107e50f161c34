import LinuxSystem
import Model
import SandboxNetwork
import SystemPackage
import Testing

extension KernelNetworkTests {
  @Suite("The host's own rules")
  struct HostTests {
    @Test("Preparing twice is the same as once, other tables stay as they are, and teardown takes only our own")
    func idempotent() async throws {
      try await Laboratory.with { laboratory in
        try await laboratory.run(
          "nft", ["add table ip other; add chain ip other c { type filter hook input priority 0; policy accept; }"],
          in: laboratory.host)
        let before = try await laboratory.census()
        try await laboratory.networks.prepareHost()
        let once = try await laboratory.census()
        try await laboratory.networks.prepareHost()
        #expect(try await laboratory.census() == once)
        #expect(once.contains("table ip other"))
        try await laboratory.networks.teardownHost()
        #expect(try await laboratory.census() == before)
        try await laboratory.networks.teardownHost()
      }
    }

    @Test("The number of rules does not grow with the number of sandboxes")
    func constantRules() async throws {
      try await Laboratory.with { laboratory in
        try await laboratory.networks.prepareHost()
        let before = try await laboratory.run("nft", ["list", "ruleset"], in: laboratory.host).outputText
        for slot in 4_000..<4_003 {
          _ = try await laboratory.networks.create(slot: slot, policy: NetworkPolicy(), ownerUID: 1)
        }
        #expect(try await laboratory.run("nft", ["list", "ruleset"], in: laboratory.host).outputText == before)
      }
    }

    @Test("Reloading the rules does not break an open sandbox")
    func reload() async throws {
      try await Laboratory.with { laboratory in
        try await laboratory.networks.prepareHost()
        try await laboratory.startServers()
        let handle = try await laboratory.addSandbox(4_000)
        try await laboratory.networks.prepareHost()
        let inward = try await laboratory.probe(
          ["tcp:\(handle.hostAddress):\(GuestContract.agentPort)"], from: laboratory.host)
        let outward = try await laboratory.probe(["tcp:\(Laboratory.internet):8080"], from: laboratory.guest(4_000))
        #expect((inward + outward).allSatisfy { $0.outcome == "answered" }, "\(inward + outward)")
      }
    }

    @Test("A firewall that drops forwarded packets is found, with the remedy")
    func foreignFirewall() async throws {
      try await Laboratory.with { laboratory in
        try await laboratory.networks.prepareHost()
        #expect(await laboratory.networks.diagnose() == [])
        try await laboratory.run(
          "nft",
          ["add table ip filter; add chain ip filter FORWARD { type filter hook forward priority 0; policy drop; }"],
          in: laboratory.host)
        let hints = await laboratory.networks.diagnose()
        #expect(hints.count == 1 && hints.first?.severity == .warning, "\(hints)")
      }
    }

    @Test("A route of the host over the sandbox network is found")
    func overlappingRoute() async throws {
      try await Laboratory.with { laboratory in
        try await laboratory.run(
          "ip", ["route", "add", "10.200.128.0/20", "via", Laboratory.worldAddress], in: laboratory.host)
        let hints = await laboratory.networks.diagnose()
        #expect(hints.count == 1 && hints.first?.severity == .error, "\(hints)")
      }
    }
  }
}
