import Foundation
import Model
import Testing

@testable import SandboxNetwork

@Suite("Policy and rules")
struct RulesTests {
  private func egress(_ policy: NetworkPolicy) throws -> Egress {
    try Egress(policy: policy, sandboxNetwork: #require(IPv4Network("10.200.0.0/16")))
  }

  private func rules(_ policy: NetworkPolicy, resolver: String? = "10.255.255.53") throws -> String {
    let configuration = try NetworkConfiguration.standard()
    return NamespaceRules(
      address: try configuration.addressing.address(of: 1), egress: try egress(policy),
      resolver: resolver.flatMap { IPv4Address($0) }, tableName: "martlet", connectionLimit: 4_096
    ).text
  }

  @Test("Other sandboxes, loopback and metadata stay closed whatever a policy allows")
  func neverBeatsAllow() throws {
    let egress = try egress(NetworkPolicy(allow: ["10.200.0.0/16", "169.254.169.254", "127.0.0.1"]))
    #expect(egress.never.contains("10.200.0.0/16"))
    #expect(egress.never.contains("169.254.0.0/16"))
    let text = try rules(NetworkPolicy(allow: ["10.200.0.0/16"]))
    let never = try #require(text.range(of: "@never jump refuse"))
    let allow = try #require(text.range(of: "@allow accept"))
    let deny = try #require(text.range(of: "@deny jump refuse"))
    #expect(never.lowerBound < allow.lowerBound && allow.lowerBound < deny.lowerBound)
  }

  @Test(
    "Private ranges are denied without a policy",
    arguments: ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10"])
  func privateRanges(network: String) throws {
    #expect(try egress(NetworkPolicy()).deny.contains(network))
  }

  @Test(
    "A malformed or hostile network entry is refused and never becomes a rule",
    arguments: [
      "10.0.0.0/33", "10.0.0.1/8", "300.1.1.1", "::1", "10.0.0.0/8; flush ruleset", "10.0.0.0/8 }\n", "", "01.2.3.4",
    ])
  func hostileEntries(entry: String) {
    #expect(throws: NetworkError.self) { try egress(NetworkPolicy(allow: [entry])) }
    #expect(throws: NetworkError.self) { try egress(NetworkPolicy(deny: [entry])) }
  }

  @Test("More entries than the bound are refused")
  func tooManyEntries() {
    let entries = Array(repeating: "1.2.3.4", count: Limits.networkEntries + 1)
    #expect(throws: NetworkError.self) { try egress(NetworkPolicy(deny: entries)) }
  }

  @Test("Without egress there is no DNS and the one rule is to refuse")
  func egressOff() throws {
    let text = try rules(NetworkPolicy(allowsEgress: false, allow: ["1.1.1.1"]))
    #expect(!text.contains("dport 53"))
    #expect(!text.contains("@allow accept"))
    #expect(text.contains("chain egress {\n    jump refuse\n  }"))
  }

  @Test("DNS goes to the upstream only on port 53, and nowhere without one")
  func nameService() throws {
    #expect(
      try rules(NetworkPolicy()).contains(
        "ip daddr 169.254.0.22 meta l4proto { tcp, udp } th dport 53 dnat ip to 10.255.255.53"))
    #expect(try !rules(NetworkPolicy(), resolver: nil).contains("dport 53"))
  }

  @Test("The host's rules do not name any sandbox")
  func hostRulesAreConstant() throws {
    let text = HostRules(configuration: try .standard(), resolver: nil).text
    #expect(text.hasPrefix("table inet martlet\ndelete table inet martlet\n"))
    #expect(!text.contains("mv"))
    #expect(!text.contains("flush"))
  }

  @Test(
    "The line at which a batch failed is read from what ip says, and nothing else",
    arguments: [
      ("Cannot find device \"x\"\nCommand failed -:3\n", 2), ("RTNETLINK answers: File exists\nCommand failed -:1", 0),
      ("Command failed -:0", nil), ("Command failed -:x", nil), ("", nil), ("killed", nil),
    ] as [(String, Int?)])
  func completedLines(text: String, expected: Int?) {
    #expect(NamespaceBatch.completedLines(errorText: text) == expected)
  }
}

@Suite("Upstream resolver")
struct UpstreamResolverTests {
  @Test("Name servers are read in order, comments and other families are passed over")
  func parse() {
    let text =
      "# nameserver 1.1.1.1\n;x\nsearch a\nnameserver\t10.0.0.1\nnameserver ::1\nnameserver 9.9.9.9 # x\nnameserverx 8.8.8.8\r\n"
    #expect(UpstreamResolver.nameServers(in: text).map(\.description) == ["10.0.0.1", "9.9.9.9"])
  }

  @Test("A loopback stub is passed over for the next file; with only loopbacks there is none")
  func stub() throws {
    let directory = FileManager.default.temporaryDirectory.appendingPathComponent("martlet-resolv-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: directory) }
    let (stub, real) = (directory.appendingPathComponent("stub").path, directory.appendingPathComponent("real").path)
    try Data("nameserver 127.0.0.53\n".utf8).write(to: URL(fileURLWithPath: stub))
    try Data("nameserver 10.1.1.1\n".utf8).write(to: URL(fileURLWithPath: real))
    #expect(UpstreamResolver.find(in: [stub, "/nonexistent", real])?.description == "10.1.1.1")
    #expect(UpstreamResolver.find(in: [stub]) == nil)
    #expect(UpstreamResolver.find(in: []) == nil)
  }
}
