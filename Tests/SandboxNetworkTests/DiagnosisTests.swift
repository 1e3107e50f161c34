import Concurrency
import Logging
import Model
import Testing

@testable import SandboxNetwork

@Suite("Diagnosis")
struct DiagnosisTests {
  private let docker = """
    {"nftables": [{"metainfo": {"version": "1.0.6", "json_schema_version": 1}},
      {"chain": {"family": "ip", "table": "filter", "name": "FORWARD", "handle": 1,
        "type": "filter", "hook": "forward", "prio": 0, "policy": "drop"}},
      {"chain": {"family": "ip6", "table": "filter", "name": "FORWARD", "handle": 1,
        "type": "filter", "hook": "forward", "prio": 0, "policy": "drop"}},
      {"chain": {"family": "inet", "table": "other", "name": "input", "handle": 2,
        "type": "filter", "hook": "input", "prio": 0, "policy": "drop"}},
      {"chain": {"family": "ip", "table": "filter", "name": "DOCKER-USER", "handle": 3}}]}
    """

  @Test("only IPv4 forward chains with a drop policy are reported")
  func forwardChains() {
    #expect(FirewallListing.droppingForwardChains(json: docker).map(\.name) == ["FORWARD"])
    #expect(FirewallListing.droppingForwardChains(json: "").isEmpty)
    #expect(FirewallListing.droppingForwardChains(json: "{\"nftables\": 3}").isEmpty)
  }

  @Test("Docker's firewall and an overlapping route are reported with a remedy")
  func hints() async throws {
    let runner = ScriptedRunner()
    runner.state.withLock {
      $0.outputs["-j list chains"] = docker
      $0.outputs["-4 -json route show table all"] = """
        [{"dst":"default","gateway":"10.0.0.1","dev":"eth0","flags":[]},{"dst":"10.0.0.0/8","dev":"wg0","flags":[]},
         {"dst":"10.200.0.4/30","dev":"mv1","flags":[]},{"dst":"192.168.1.0/24","dev":"eth0","flags":[]},
         {"type":"local","dst":"10.200.0.5","dev":"mv1","table":"local","flags":[]},
         {"type":"broadcast","dst":"10.200.9.255","dev":"eth1","table":"local","flags":[]}]
        """
    }
    var configuration = try NetworkConfiguration.standard()
    configuration.resolverFiles = []
    let networks = SandboxNetworks(
      configuration: configuration, runner: runner, logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
    let hints = await networks.diagnose().filter { !$0.problem.contains("/dev/net/tun") }
    guard !hints.isEmpty else { return }
    #expect(hints.contains { $0.severity == .warning && $0.remedy.contains("DOCKER-USER -i mv+") })
    #expect(hints.filter { $0.severity == .error }.map(\.problem).first?.contains("wg0") == true)
    #expect(hints.contains { $0.problem.contains("DNS") })
    #expect(hints.count == 3)
  }

  @Test("An address of the host in the range, in whatever table, is a clash that names it, with a free range")
  func clashes() async throws {
    let runner = ScriptedRunner()
    runner.state.withLock {
      $0.outputs["-4 -json route show table all"] = """
        [{"dst":"10.199.0.0/16","dev":"eth0","flags":[]},
         {"type":"local","dst":"10.200.7.1","dev":"lo","table":"local","flags":[]},
         {"dst":"10.200.64.0/18","dev":"tun0","table":"52","flags":[]},{"type":"unreachable","dst":"10.200.0.0/16"}]
        """
    }
    let networks = SandboxNetworks(
      configuration: try .standard(), runner: runner, logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
    let hints = await networks.clashes()
    #expect(
      hints.map(\.problem) == [
        "the host's address 10.200.7.1 on lo overlaps the range of the sandboxes, 10.200.0.0/16",
        "the host's route to 10.200.64.0/18 through tun0 overlaps the range of the sandboxes, 10.200.0.0/16",
        "the host's route to 10.200.0.0/16 through no device overlaps the range of the sandboxes, 10.200.0.0/16",
      ])
    #expect(hints.allSatisfy { $0.remedy.hasSuffix("such as 10.198.0.0/16") && $0.remedy.contains("--network-range") })
  }

  @Test("A missing tool is reported with its package, and nothing else is asked")
  func missingTools() async throws {
    let runner = ScriptedRunner(faults: [.fail(.inspect)])
    let networks = SandboxNetworks(
      configuration: try .standard(), runner: runner, logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
    let hints = await networks.diagnose()
    #expect(hints.contains { $0.severity == .error && $0.remedy.contains("nftables") })
  }
}
