import Envd
import Testing

@Suite struct KernelCommandLineTests {
  @Test("network parameters are found among the kernel's own")
  func parameters() throws {
    let line = KernelCommandLine(
      "console=ttyS0 quiet martlet.ip=169.254.0.21/30 martlet.gw=169.254.0.22 "
        + "martlet.mac=06:00:ac:10:00:02 martlet.dns=1.1.1.1,8.8.8.8\n"
    )
    let network = try #require(line.network)
    #expect(network.address == 0xA9FE_0015)
    #expect(network.prefixLength == 30)
    #expect(network.mask == 0xFFFF_FFFC)
    #expect(line.gateway == 0xA9FE_0016)
    #expect(line.linkAddress == [6, 0, 0xAC, 0x10, 0, 2])
    #expect(line.nameServers == ["1.1.1.1", "8.8.8.8"])
  }

  @Test("a command line without our parameters configures no network")
  func empty() {
    #expect(KernelCommandLine("").network == nil)
    #expect(KernelCommandLine("ro quiet martlet.ip").network == nil)
  }

  @Test(
    "invalid values are ignored",
    arguments: [
      "1.2.3/24", "1.2.3.4", "1.2.3.4/33", "1.2.3.4/-1", "1.2.3.256/24", "1.2.3.4.5/24", "a.b.c.d/24", "/24", "",
    ])
  func malformed(value: String) {
    #expect(KernelCommandLine("martlet.ip=\(value)").network == nil)
  }

  @Test("malformed link addresses and name servers are ignored")
  func malformedOthers() {
    #expect(KernelCommandLine("martlet.mac=06:00:ac:10:00").linkAddress == nil)
    #expect(KernelCommandLine("martlet.mac=06:00:ac:10:00:zz").linkAddress == nil)
    #expect(KernelCommandLine("martlet.mac=6:0:ac:10:0:2").linkAddress == nil)
    #expect(KernelCommandLine("martlet.gw=example").gateway == nil)
    #expect(KernelCommandLine("martlet.dns=1.1.1.1,evil;rm,,8.8.8.8").nameServers == ["1.1.1.1", "8.8.8.8"])
  }

  @Test("the shortest and longest prefix lengths give the right masks")
  func masks() {
    #expect(KernelCommandLine("martlet.ip=1.2.3.4/0").network?.mask == 0)
    #expect(KernelCommandLine("martlet.ip=1.2.3.4/32").network?.mask == .max)
  }

  @Test("the resolver file has one line per name server")
  func resolver() {
    #expect(GuestNetwork.resolver(["1.1.1.1", "8.8.8.8"]) == "nameserver 1.1.1.1\nnameserver 8.8.8.8\n")
  }
}
