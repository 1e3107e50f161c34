import LinuxSystem
import Model
import SandboxNetwork
import SystemPackage
import Testing

extension KernelNetworkTests {
  @Suite("The host's own rules")
  struct HostTests {
    @Test("preparing twice equals preparing once, other tables stay, and teardown removes only ours")
    func idempotent() async throws {
      try await NetworkFixture.with { fixture in
        try await fixture.run(
          "nft", ["add table ip other; add chain ip other c { type filter hook input priority 0; policy accept; }"],
          in: fixture.host)
        let before = try await fixture.census()
        try await fixture.networks.prepareHost()
        let once = try await fixture.census()
        try await fixture.networks.prepareHost()
        #expect(try await fixture.census() == once)
        #expect(once.contains("table ip other"))
        try await fixture.networks.teardownHost()
        #expect(try await fixture.census() == before)
        try await fixture.networks.teardownHost()
      }
    }

    @Test("the number of rules does not grow with the number of sandboxes")
    func constantRules() async throws {
      try await NetworkFixture.with { fixture in
        try await fixture.networks.prepareHost()
        let before = try await fixture.run("nft", ["list", "ruleset"], in: fixture.host).outputText
        for slot in 4_000..<4_003 {
          _ = try await fixture.networks.create(slot: slot, policy: NetworkPolicy(), ownerUID: 1)
        }
        #expect(try await fixture.run("nft", ["list", "ruleset"], in: fixture.host).outputText == before)
      }
    }

    @Test("reloading the rules does not break connections of a sandbox")
    func reload() async throws {
      try await NetworkFixture.with { fixture in
        try await fixture.networks.prepareHost()
        try await fixture.startServers()
        let handle = try await fixture.addSandbox(4_000)
        try await fixture.networks.prepareHost()
        let inward = try await fixture.probe(
          ["tcp:\(handle.hostAddress):\(GuestContract.agentPort)"], from: fixture.host)
        let outward = try await fixture.probe(["tcp:\(NetworkFixture.internet):8080"], from: fixture.guest(4_000))
        #expect((inward + outward).allSatisfy { $0.outcome == "responded" }, "\(inward + outward)")
      }
    }

    @Test("a firewall that drops forwarded packets is found, with the remedy")
    func foreignFirewall() async throws {
      try await NetworkFixture.with { fixture in
        try await fixture.networks.prepareHost()
        #expect(await fixture.networks.diagnose() == [])
        try await fixture.run(
          "nft",
          ["add table ip filter; add chain ip filter FORWARD { type filter hook forward priority 0; policy drop; }"],
          in: fixture.host)
        let hints = await fixture.networks.diagnose()
        #expect(hints.count == 1 && hints.first?.severity == .warning, "\(hints)")
      }
    }

    @Test("a route of the host that overlaps the sandbox network is found")
    func overlappingRoute() async throws {
      try await NetworkFixture.with { fixture in
        try await fixture.run(
          "ip", ["route", "add", "10.200.128.0/20", "via", NetworkFixture.outsideAddress], in: fixture.host)
        let hints = await fixture.networks.diagnose()
        #expect(hints.count == 1 && hints.first?.severity == .error, "\(hints)")
      }
    }

    @Test("an address of the host in the sandbox network is found")
    func overlappingAddress() async throws {
      try await NetworkFixture.with { fixture in
        #expect(await fixture.networks.clashes() == [])
        try await fixture.run("ip", ["addr", "add", "10.200.128.9/32", "dev", "lo"], in: fixture.host)
        let hints = await fixture.networks.clashes()
        #expect(hints.count == 1 && hints.first?.problem.contains("10.200.128.9 on lo") == true, "\(hints)")
      }
    }
  }
}
