import Model
import Testing

@Suite struct SandboxNetworkRangeTests {
  @Test(
    "private ranges with room for sandboxes are taken as they are",
    arguments: ["10.0.0.0/8", "10.200.0.0/16", "172.16.0.0/12", "172.31.255.0/24", "192.168.0.0/26", "100.64.0.0/10"])
  func valid(_ text: String) throws {
    #expect(try SandboxNetworkRange(text).description == text)
  }

  @Test(
    "what is no private range, too small or too large is refused with the rule that it breaks",
    arguments: [
      ("10.200.0.0", "/8 and a /26"), ("10.200.0.0/27", "/8 and a /26"), ("10.200.0.1/16", "is not a range"),
      ("10.200.0.0/33", "is not a range"), ("10.200/16", "is not a range"), ("", "is not a range"),
      ("10.200.0.0/16 ", "is not a range"), ("fd00::/8", "is not a range"), ("8.8.0.0/16", "is not private"),
      ("172.0.0.0/8", "is not private"), ("192.168.0.0/15", "is not private"), ("127.0.0.0/8", "is not private"),
      ("169.254.0.0/16", "is not private"), ("100.128.0.0/16", "is not private"),
    ])
  func invalid(_ text: String, _ rule: String) {
    let error = #expect(throws: MartletError.self) { try SandboxNetworkRange(text) }
    #expect(error?.code == .invalidRequest)
    #expect(error?.message.contains(rule) == true, "\(error?.message ?? "")")
    #expect(error?.message.contains("--network-range") == true)
  }

  @Test("each server of a machine has a standard range of its own")
  func standard() throws {
    #expect(try SandboxNetworkRange.standard(agent: 0).description == "10.200.0.0/16")
    #expect(try SandboxNetworkRange.standard(agent: 31).description == "10.231.0.0/16")
  }

  @Test("a range that is suggested overlaps nothing that is taken")
  func free() throws {
    let taken = try ["10.128.0.0/9", "10.127.0.0/16"].map { try #require(IPv4Network($0)) }
    #expect(SandboxNetworkRange.free(of: taken)?.description == "10.126.0.0/16")
    let everything = try #require(IPv4Network("0.0.0.0/0"))
    #expect(SandboxNetworkRange.free(of: [everything]) == nil)
  }
}
