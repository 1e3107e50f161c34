import Envd
import HTTPTypes
import NIOCore
import Testing

@Suite struct AccessControlTests {
  @Test("tokens match only when they are equal")
  func tokens() {
    #expect(AccessToken.matches("secret", "secret"))
    #expect(!AccessToken.matches("secrets", "secret"))
    #expect(!AccessToken.matches("secre", "secret"))
    #expect(!AccessToken.matches("secreT", "secret"))
    #expect(!AccessToken.matches("", "secret"))
    #expect(!AccessToken.matches(nil, "secret"))
    #expect(!AccessToken.matches("", ""))
    #expect(!AccessToken.matches("secretsecret", "secret"))
  }

  private let policy = PeerPolicy(hostLink: "eth0") {
    [
      PeerPolicy.LinkAddress(link: "lo", address: 0x7F00_0001, mask: 0xFF00_0000),
      PeerPolicy.LinkAddress(link: "eth0", address: 0xA9FE_0015, mask: 0xFFFF_FFFC),
      PeerPolicy.LinkAddress(link: "docker0", address: 0xAC11_0001, mask: 0xFFFF_0000),
    ]
  }

  @Test("the host may use the control routes", arguments: ["169.254.0.22", "10.11.0.1", "192.168.7.7"])
  func host(address: String) throws {
    #expect(policy.admits(try SocketAddress(ipAddress: address, port: 40_000)))
  }

  @Test(
    "the guest itself and its containers may not use the control routes",
    arguments: ["127.0.0.1", "127.9.9.9", "169.254.0.21", "172.17.0.1", "172.17.3.4", "::1"])
  func guest(address: String) throws {
    #expect(!policy.admits(try SocketAddress(ipAddress: address, port: 40_000)))
  }

  @Test("a peer without an address is admitted only if the agent is not process 1")
  func unknownPeer() {
    #expect(!policy.admits(nil))
    #expect(PeerPolicy(hostLink: nil).admits(nil))
  }

  @Test("the addresses of this machine include its loopback")
  func ownAddresses() {
    #expect(PeerPolicy.currentAddresses().contains { $0.link == "lo" && $0.address == 0x7F00_0001 })
  }

  @Test(
    "the user of a call comes from its Basic credentials",
    arguments: [
      ("Basic cm9vdDo=", "root"), ("basic dXNlcjpwdw==", "user"), ("Basic cm9vdA==", "root"), ("Basic Og==", nil),
      ("Bearer cm9vdDo=", nil), ("Basic ???", nil), ("Basic", nil), ("", nil),
    ] as [(String, String?)])
  func basicUser(header: String, user: String?) {
    #expect(CallHeaders.userName(in: [.authorization: header]) == user)
  }

  @Test("a call without credentials names no user")
  func noUser() {
    #expect(CallHeaders.userName(in: [:]) == nil)
  }

  @Test("the memory reserved for the agent has a lower and an upper bound")
  func memoryLimit() {
    let mib: Int64 = 1_048_576
    #expect(UserCgroup.memoryLimitBytes(of: 512 * mib) == 480 * mib)
    #expect(UserCgroup.memoryLimitBytes(of: 128 * mib) == 104 * mib)
    #expect(UserCgroup.memoryLimitBytes(of: 65_536 * mib) == (65_536 - 192) * mib)
    #expect(UserCgroup.memoryLimitBytes(of: 32 * mib) == 16 * mib)
  }
}

@Suite struct MetricsTests {
  private let stat = "cpu  100 0 50 800 50 0 0 0 7 7\ncpu0 50 0 25 400 25 0 0 0\ncpu1 50 0 25 400 25 0 0 0\nintr 1\n"

  @Test("CPU usage is the percentage of time that was not idle")
  func processor() throws {
    let first = try #require(ProcessorTimes(procStat: stat))
    #expect(first.cpuCount == 2)
    #expect(first.usedPercent(since: nil) == 15)
    let second = try #require(ProcessorTimes(procStat: "cpu  175 0 50 825 50 0 0 0 0 0\ncpu0 1 1 1 1 1\n"))
    #expect(second.usedPercent(since: first) == 75)
  }

  @Test("counters that decreased or did not change give 0")
  func degenerate() throws {
    let first = try #require(ProcessorTimes(procStat: stat))
    #expect(first.usedPercent(since: first) == 0)
    let less = try #require(ProcessorTimes(procStat: "cpu  1 0 1 1 1 0 0 0\n"))
    #expect(less.usedPercent(since: first) == 0)
  }

  @Test("other texts are not CPU times", arguments: ["", "cpu", "cpu a b c d e", "intr 1 2 3"])
  func malformed(text: String) {
    #expect(ProcessorTimes(procStat: text) == nil)
  }

  @Test("used memory is the memory that is not available")
  func memory() {
    let memory = MemoryInformation(
      procMeminfo:
        "MemTotal: 1000 kB\nMemFree: 100 kB\nMemAvailable: 600 kB\nBuffers: 10 kB\nCached: 200 kB\nSReclaimable: 5 kB\n"
    )
    #expect(memory.total == 1_024_000)
    #expect(memory.used == 400 * 1024)
    #expect(memory.cache == 215 * 1024)
    #expect(MemoryInformation(procMeminfo: "garbage\n: x").used == 0)
  }

  @Test("a sample of this machine is plausible")
  func sample() throws {
    let metrics = try MetricsSampler().sample()
    #expect(metrics.cpuCount > 0)
    #expect(metrics.memoryTotalBytes > metrics.memoryUsedBytes)
    #expect(metrics.diskTotalBytes >= metrics.diskUsedBytes)
    #expect((0...100).contains(metrics.cpuUsedPercent))
  }
}

@Suite struct AgentOptionsTests {
  @Test("arguments are parsed")
  func arguments() throws {
    #expect(try AgentOptions(arguments: []).port == 49_983)
    let options = try AgentOptions(arguments: ["--port", "0", "--no-cgroup", "--host", "127.0.0.1"])
    #expect(options.port == 0)
    #expect(options.host == "127.0.0.1")
    #expect(!options.usesCgroup)
  }

  @Test(
    "malformed arguments are refused",
    arguments: [["--port"], ["--port", "x"], ["--port", "65536"], ["--port", "-1"], ["--host"], ["serve"]])
  func malformed(arguments: [String]) {
    #expect(throws: AgentOptions.ParseError.self) { try AgentOptions(arguments: arguments) }
  }
}
