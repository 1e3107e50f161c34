import Model
import Testing

@Suite struct NameTests {
  @Test(
    "email addresses are trimmed and converted to lower case",
    arguments: [
      ("a@b.c", "a@b.c"), (" Ada.Lovelace+x@Example.COM\n", "ada.lovelace+x@example.com"),
      ("o'brien_1@mail.ex-ample.org", "o'brien_1@mail.ex-ample.org"),
    ])
  func emails(_ text: String, _ value: String) throws {
    #expect(try EmailAddress(text).value == value)
  }

  @Test(
    "invalid email addresses are refused",
    arguments: [
      "", "@", "a@", "@b.c", "a@b", "a@@b.c", "a b@c.d", "a@b..c", ".a@b.c", "a.@b.c", "a..b@c.d", "a@-b.c", "a@b-.c",
      "a@b.c.",
      "ä@b.c", "a@bü.c", "a@[127.0.0.1]", "\"a\"@b.c", "a@b.c\nBcc: x@y.z", "a\u{0}@b.c", "a@b_c.d",
      String(repeating: "a", count: 65) + "@b.c",
      "a@" + String(repeating: "b", count: 64) + ".c", "a@" + String(repeating: "b.", count: 130) + "c",
      String(repeating: "a", count: 1 << 20),
    ])
  func badEmails(_ text: String) {
    #expect(throws: MartletError.self) { try EmailAddress(text) }
  }

  @Test(
    "names are trimmed",
    arguments: [(" Ada ", "Ada"), ("Zoë 🦆", "Zoë 🦆"), ("李", "李"), ("a\u{200D}b", "a\u{200D}b")])
  func names(_ text: String, _ value: String) throws {
    #expect(try DisplayName(text).value == value)
  }

  @Test(
    "names without visible characters, with control characters or too long are refused",
    arguments: [
      "", " ", "\n", "a\u{0}b", "a\nb", "\u{1B}[2J", "a\u{202E}b", "a\u{2066}b", String(repeating: "x", count: 101),
    ])
  func badNames(_ text: String) {
    #expect(throws: MartletError.self) { try DisplayName(text) }
  }
}
