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

  @Test("no policy opens other sandboxes, loopback or metadata addresses")
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
    "private ranges are denied by default",
    arguments: ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10"])
  func privateRanges(network: String) throws {
    #expect(try egress(NetworkPolicy()).deny.contains(network))
  }

  @Test(
    "a malformed or hostile network entry is refused and never becomes a rule",
    arguments: [
      "10.0.0.0/33", "10.0.0.1/8", "300.1.1.1", "::1", "10.0.0.0/8; flush ruleset", "10.0.0.0/8 }\n", "", "01.2.3.4",
    ])
  func hostileEntries(entry: String) {
    #expect(throws: NetworkError.self) { try egress(NetworkPolicy(allow: [entry])) }
    #expect(throws: NetworkError.self) { try egress(NetworkPolicy(deny: [entry])) }
  }

  @Test("too many entries are refused")
  func tooManyEntries() {
    let entries = Array(repeating: "1.2.3.4", count: Limits.networkEntries + 1)
    #expect(throws: NetworkError.self) { try egress(NetworkPolicy(deny: entries)) }
  }

  @Test("without egress there is no DNS, and the only rule refuses")
  func egressOff() throws {
    let text = try rules(NetworkPolicy(allowsEgress: false, allow: ["1.1.1.1"]))
    #expect(!text.contains("dport 53"))
    #expect(!text.contains("@allow accept"))
    #expect(text.contains("chain egress {\n    jump refuse\n  }"))
  }

  @Test("DNS is forwarded to the upstream on port 53 only, and not at all without an upstream")
  func nameService() throws {
    #expect(
      try rules(NetworkPolicy()).contains(
        "ip daddr 169.254.0.22 meta l4proto { tcp, udp } th dport 53 dnat ip to 10.255.255.53"))
    #expect(try !rules(NetworkPolicy(), resolver: nil).contains("dport 53"))
  }

  @Test("the host's rules do not name sandboxes")
  func hostRulesAreConstant() throws {
    let text = HostRules(configuration: try .standard(), resolver: nil).text
    #expect(text.hasPrefix("table inet martlet\ndelete table inet martlet\n"))
    #expect(!text.contains("mv"))
    #expect(!text.contains("flush"))
  }

  @Test(
    "the failed line of a batch is read from ip's error output only",
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
  @Test("name servers are read in order, comments and other address families are skipped")
  func parse() {
    let text =
      "# nameserver 1.1.1.1\n;x\nsearch a\nnameserver\t10.0.0.1\nnameserver ::1\nnameserver 9.9.9.9 # x\n"
      + "nameserverx 8.8.8.8\r\n"
    #expect(UpstreamResolver.nameServers(in: text).map(\.description) == ["10.0.0.1", "9.9.9.9"])
  }

  @Test("a loopback resolver is skipped for the next file; without another there is none")
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
