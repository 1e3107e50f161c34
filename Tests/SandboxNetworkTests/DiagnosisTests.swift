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
      $0.outputs["-json route show table main"] = """
        [{"dst":"default","gateway":"10.0.0.1","dev":"eth0","flags":[]},{"dst":"10.0.0.0/8","dev":"wg0","flags":[]},
         {"dst":"10.200.0.4/30","dev":"mv1","flags":[]},{"dst":"192.168.1.0/24","dev":"eth0","flags":[]}]
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

  @Test("a missing tool is reported with its package, and nothing else is checked")
  func missingTools() async throws {
    let runner = ScriptedRunner(faults: [.fail(.inspect)])
    let networks = SandboxNetworks(
      configuration: try .standard(), runner: runner, logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
    let hints = await networks.diagnose()
    #expect(hints.contains { $0.severity == .error && $0.remedy.contains("nftables") })
  }
}
