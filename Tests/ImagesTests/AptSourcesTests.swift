import Testing

@testable import Images

@Suite("Apt sources")
struct AptSourcesTests {
  private static let key = "[signed-by=/usr/share/keyrings/debian-archive-keyring.gpg]"

  @Test("Debian entries of the release are taken from one-line sources, others are left out")
  func oneLine() {
    let text = """
      # deb http://a.example/debian bookworm main
      deb [arch=amd64 trusted=yes] http://b.example/debian bookworm main contrib # comment
      deb-src http://b.example/debian bookworm main
      deb http://b.example/security bookworm-security main
      deb http://c.example/node nodistro main
      deb http://d.example/x bookworm extra
      deb [broken
      """
    #expect(
      AptSources.entries(oneLine: text, release: "bookworm") == [
        "deb \(Self.key) http://b.example/debian bookworm main",
        "deb \(Self.key) http://b.example/security bookworm-security main",
      ])
  }

  @Test("Debian entries of the release are taken from deb822 sources, disabled ones are left out")
  func deb822() {
    let text = """
      Types: deb deb-src
      # comment
      URIs: http://a.example/debian
      Suites: bookworm
       bookworm-updates
       trixie
      Components: main non-free

      Enabled: no
      Types: deb
      URIs: http://b.example
      Suites: bookworm
      Components: main
      """
    #expect(
      AptSources.entries(deb822: text, release: "bookworm") == [
        "deb \(Self.key) http://a.example/debian bookworm main",
        "deb \(Self.key) http://a.example/debian bookworm-updates main",
      ])
  }

  @Test("the sources inside images are Debian's public ones and can be parsed")
  func defaults() {
    #expect(AptSources.entries(deb822: AptSources.debianDefaults(release: "bookworm"), release: "bookworm").count == 3)
  }
}
