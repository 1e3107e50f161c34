import Foundation
import LinuxSystem
import Logging
import Model
import SandboxNetwork
import SystemPackage

/// A simulated host, internet and guests, all in network namespaces: the machine's own network is not changed.
///
/// ```
/// outside (every address below, on lo) ── wan/uplink ── host ── mv<slot> ── sandbox ── tap0 ~ Python ~ eth0 ── guest
/// ```
final class NetworkFixture: Sendable {
  static let outsideAddress = "203.0.113.1"
  static let uplinkAddress = "203.0.113.2"
  static let internet = "93.184.216.34"
  static let otherInternet = "8.8.4.4"
  static let resolver = "10.255.255.53"
  static let privateAddresses = ["10.1.2.3", "172.16.9.9", "192.168.5.5", "100.64.1.1", "169.254.169.254"]
  static let serverPort = 8_080
  static let ownerUID: UInt32 = 4_242

  private let tag = "mt\(getpid())x\(UInt16.random(in: 0...9_999))"
  let networks: SandboxNetworks
  private let daemons = DaemonList()

  var host: String { "\(tag)-host" }
  var outside: String { "\(tag)-outside" }
  func guest(_ slot: Int) -> String { "\(tag)-guest\(slot)" }
  func path(_ namespace: String) -> String { "/run/netns/\(namespace)" }

  /// Runs `body` in a new fixture and removes everything afterwards.
  static func with(
    configure: @Sendable (inout NetworkConfiguration) -> Void = { _ in },
    runner: @Sendable (SystemCommandRunner) -> any CommandRunner = { $0 },
    _ body: @Sendable (NetworkFixture) async throws -> Void
  ) async throws {
    let fixture = try NetworkFixture(configure: configure, runner: runner)
    do {
      try await fixture.build()
      try await body(fixture)
    } catch {
      await fixture.close()
      throw error
    }
    await fixture.close()
  }

  private init(
    configure: (inout NetworkConfiguration) -> Void, runner: (SystemCommandRunner) -> any CommandRunner
  ) throws {
    guard let network = IPv4Network("10.200.0.0/16"), let resolver = IPv4Address(Self.resolver) else {
      throw CocoaError(.formatting)
    }
    var configuration = NetworkConfiguration(
      addressing: try SlotAddressing(network: network, namespacePrefix: "\(tag)-s"))
    configuration.upstreamResolver = resolver
    configure(&configuration)
    networks = SandboxNetworks(
      configuration: configuration, runner: runner(SystemCommandRunner(hostNamespacePath: "/run/netns/\(tag)-host")),
      logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
  }

  private func build() async throws {
    let addresses = [Self.internet, Self.otherInternet, Self.resolver] + Self.privateAddresses
    try await run("ip", ["netns", "add", host])
    try await run("ip", ["netns", "add", outside])
    try await run(
      "ip", ["-batch", "-"], in: host,
      input: """
        link set lo up
        link add uplink type veth peer name wan netns \(outside)
        addr add \(Self.uplinkAddress)/24 dev uplink
        link set uplink up
        """)
    try await run(
      "ip", ["-batch", "-"], in: outside,
      input: (["link set lo up", "addr add \(Self.outsideAddress)/24 dev wan", "link set wan up"]
        + addresses.map { "addr add \($0)/32 dev lo" } + ["route add 10.200.0.0/16 via \(Self.uplinkAddress)"]).joined(
          separator: "\n")
        + "\n")
    try await run("ip", ["route", "add", "default", "via", Self.outsideAddress], in: host)
  }

  /// Starts servers in the internet namespace and on the host, so that refused connections would otherwise succeed.
  func startServers() async throws {
    try await start(Scripts.server, [String(Self.serverPort), "53"], in: outside)
    try await start(Scripts.server, [String(Self.serverPort), "53"], in: host)
  }

  /// Makes a sandbox's network with a guest behind its TAP device that serves on the agent's port.
  func addSandbox(_ slot: Int, _ policy: NetworkPolicy = NetworkPolicy()) async throws -> NetworkHandle {
    let handle = try await networks.create(slot: slot, policy: policy, ownerUID: Self.ownerUID)
    try await run("ip", ["netns", "add", guest(slot)])
    try await start(
      Scripts.guest,
      [
        handle.namespacePath.string, path(guest(slot)), GuestContract.guestMAC, GuestContract.guestAddress.description,
        GuestContract.gatewayAddress.description,
      ], in: nil)
    try await start(Scripts.server, [String(GuestContract.agentPort)], in: guest(slot))
    return handle
  }

  /// Probes each `kind:address:port` from a namespace and returns the outcomes.
  func probe(_ targets: [String], from namespace: String) async throws -> [Probe] {
    let output = try await run("/usr/bin/python3", ["-c", Scripts.probe] + targets, in: namespace)
    return zip(targets, output.outputText.split(separator: "\n")).map { Probe(target: $0, line: String($1)) }
  }

  @discardableResult
  func run(
    _ tool: String, _ arguments: [String], in namespace: String? = nil, input: String? = nil
  ) async throws -> ToolOutput {
    guard let namespace else { return try await Tool.run(tool, arguments, input: input).checked() }
    let executable = Tool.find(tool) ?? tool
    let path = namespace.hasPrefix("/") ? namespace : path(namespace)
    return try await Tool.run("nsenter", ["--net=\(path)", "--", executable] + arguments, input: input).checked()
  }

  private func start(_ script: String, _ arguments: [String], in namespace: String?) async throws {
    await daemons.add(try await Daemon.start(script, arguments, namespacePath: namespace.map(path)))
  }

  /// Names of the fixture's namespaces, and the host's links and rules: must be unchanged after a test.
  func census() async throws -> String {
    let namespaces = try Directories.names(in: "/run/netns").filter { $0.hasPrefix("\(tag)-s") }.sorted()
    let links = try await run("ip", ["-brief", "link"], in: host).outputText
    let rules = try await run("nft", ["list", "ruleset"], in: host).outputText
    return "\(namespaces)\n\(links)\n\(rules)"
  }

  private func close() async {
    await daemons.stop()
    for slot in (try? await networks.existingSlots()) ?? [] { try? await networks.remove(slot: slot) }
    for name in (try? Directories.names(in: "/run/netns")) ?? [] where name.hasPrefix("\(tag)-") {
      _ = try? await run("ip", ["netns", "del", name])
    }
  }
}

struct Probe: Sendable, CustomStringConvertible {
  let target: String
  let outcome: String
  let milliseconds: Int
  let response: String

  init(target: String, line: String) {
    let words = line.split(separator: " ", omittingEmptySubsequences: false).map(String.init)
    self.target = target
    outcome = words.first ?? ""
    milliseconds = words.count > 1 ? Int(words[1]) ?? .max : .max
    response = words.count > 2 ? words[2] : ""
  }

  /// A refusal that arrives at once.
  var isRefusedQuickly: Bool { outcome == "refused" && milliseconds < 1_000 }
  var description: String { "\(target) → \(outcome) after \(milliseconds) ms \(response)" }
}
