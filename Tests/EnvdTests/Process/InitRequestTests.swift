import Envd
import FoundationEssentials
import Testing

@Suite struct InitRequestTests {
  private func body(_ json: String) throws -> InitRequest {
    try JSONDecoder().decode(InitRequest.self, from: Data(json.utf8))
  }

  @Test("E2B's fields that have no meaning here are ignored")
  func unknownFields() throws {
    let body = try body(
      #"{"envVars":{"A":"b"},"caBundle":"x","volumeMounts":[],"lifecycleID":"1","hyperloopIP":"1.2.3.4"}"#)
    #expect(body.envVars == ["A": "b"])
  }

  @Test("absent fields change nothing; present fields do")
  func apply() throws {
    var identity = GuestState.Identity(
      accessToken: "old", defaultUser: "user", environment: ["A": "1"], sandboxID: "sb-1")
    identity.apply(try body("{}"))
    #expect(
      identity
        == GuestState.Identity(accessToken: "old", defaultUser: "user", environment: ["A": "1"], sandboxID: "sb-1"))
    identity.apply(
      try body(
        #"{"envVars":{"B":"2"},"accessToken":"new","defaultUser":"mia","defaultWorkdir":"/w","sandboxID":"sb-2"}"#))
    #expect(
      identity
        == GuestState.Identity(
          accessToken: "new", defaultUser: "mia", defaultWorkdir: "/w", environment: ["B": "2"], sandboxID: "sb-2"))
    identity.apply(try body(#"{"defaultWorkdir":""}"#))
    #expect(identity.defaultWorkdir == nil)
  }

  @Test(
    "RFC 3339 times are parsed to the nanosecond",
    arguments: [
      ("1970-01-01T00:00:00Z", 0, 0), ("2026-11-21T02:52:00Z", 1_795_229_520, 0),
      ("2026-11-21T03:52:00.123456789+01:00", 1_795_229_520, 123_456_789),
      ("2024-02-29T23:59:59.5Z", 1_709_251_199, 500_000_000),
      ("1969-12-31T23:59:59Z", -1, 0), ("2026-11-21t02:52:00.1234567891234z", 1_795_229_520, 123_456_789),
    ])
  func times(text: String, seconds: Int64, nanoseconds: Int64) {
    #expect(WallClockTime(rfc3339: text) == WallClockTime(seconds: seconds, nanoseconds: nanoseconds))
  }

  @Test(
    "other texts are not times",
    arguments: [
      "", "now", "2026-11-21", "2026-11-21T02:52:00", "2026-13-21T02:52:00Z", "2026-11-21T24:52:00Z",
      "2026-11-21T02:52:00.Z",
      "2026-11-21T02:52:00Zx", "2026-11-21T02:52:00+1:00", "+026-11-21T02:52:00Z",
    ])
  func noTimes(text: String) {
    #expect(WallClockTime(rfc3339: text) == nil)
  }

  @Test(
    "the error of a malformed field names it",
    arguments: [
      (#"{"timestamp":"yesterday"}"#, "timestamp"), (#"{"hostname":"-x"}"#, "hostname"),
      (#"{"hostname":"a b"}"#, "hostname"),
      (#"{"hostname":""}"#, "hostname"), (#"{"entropy":"!"}"#, "entropy"), (#"{"defaultUser":""}"#, "defaultUser"),
      (#"{"accessToken":""}"#, "accessToken"),
    ])
  func malformed(json: String, field: String) throws {
    let body = try body(json)
    #expect { try body.validated() } throws: { ($0 as? AgentError)?.message.contains(field) == true }
  }

  @Test("the length of entropy is bounded")
  func entropy() throws {
    let fits = Data(count: InitRequest.maximumEntropyBytes).base64EncodedString()
    #expect(try body(#"{"entropy":"\#(fits)"}"#).validated().entropy.count == InitRequest.maximumEntropyBytes)
    let tooLong = Data(count: InitRequest.maximumEntropyBytes + 1).base64EncodedString()
    #expect(throws: AgentError.self) { try body(#"{"entropy":"\#(tooLong)"}"#).validated() }
  }

  @Test("the hosts file keeps its lines and names the machine once")
  func hosts() {
    let once = LinuxGuestMachine.hosts("127.0.0.1 localhost", naming: "one")
    #expect(once == "127.0.0.1 localhost\n127.0.1.1 one # martlet\n")
    #expect(LinuxGuestMachine.hosts(once, naming: "two") == "127.0.0.1 localhost\n127.0.1.1 two # martlet\n")
  }
}
