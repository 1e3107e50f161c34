import APIClient
import Concurrency
import FakeServer
import Foundation
import Testing

@testable import CommandLine

@Suite("Listing commands", .timeLimit(.minutes(1)))
struct ListingTests {
  @Test("create prints the id, or the sandbox as JSON")
  func create() async throws {
    let server = FakeMartlet()
    let plain = try await Invocation.run(["create", "--template", "base"], on: server).text
    #expect(server.state.withLock { plain == ($0.sandboxes.first ?? "") + "\n" })
    let json = try await Invocation.run(["create", "--json"], on: server).text
    let object = try #require(try JSONSerialization.jsonObject(with: Data(json.utf8)) as? [String: Any])
    #expect(object["memory_mb"] as? Int == 512)
    #expect(object["status"] as? String == "running")
  }

  @Test("ls shows all pages, and --json is one document")
  func list() async throws {
    let server = FakeMartlet()
    let ids = (0..<3).map { _ in server.addSandbox() }
    let text = try await Invocation.run(["ls"], on: server).text
    #expect(text.split(separator: "\n").count == 4)
    #expect(try await Invocation.run(["ls", "-q"], on: server).text == ids.joined(separator: "\n") + "\n")
    let json = try await Invocation.run(["ls", "--json"], on: server).text
    #expect((try JSONSerialization.jsonObject(with: Data(json.utf8)) as? [[String: Any]])?.count == 3)
  }

  @Test("info, ps and template ls print properties")
  func facts() async throws {
    let server = FakeMartlet()
    let id = server.addSandbox()
    let info = try await Invocation.run(["info", String(id.prefix(9))], on: server).text
    #expect(info.contains("isolation      qemu, tcg"))
    #expect(try await Invocation.run(["ps", id], on: server).text.contains("httpd -f"))
    #expect(try await Invocation.run(["template", "ls"], on: server).text.contains("platform"))
  }

  @Test("kill destroys the named sandboxes, or all, and reports failures")
  func kill() async throws {
    let server = FakeMartlet()
    let ids = (0..<3).map { _ in server.addSandbox() }
    let gone = "sb-00000000-0000-4000-8000-000000000000"
    let outcome = try await Invocation.run(["kill", ids[0], gone], on: server)
    #expect(outcome.code == 66)
    #expect(outcome.text == ids[0] + "\n" && outcome.errors.contains(gone))
    #expect(try await Invocation.run(["kill", "--all"], on: server).code == 0)
    #expect(server.state.withLock { $0.sandboxes.isEmpty })
  }

  @Test("help and version go to standard output with success")
  func help() async throws {
    let help = try await Invocation.run(["--help"])
    #expect(help.code == 0 && help.text.contains("doctor") && help.errors.isEmpty)
    #expect(try await Invocation.run(["--version"]).text == "martlet 1.2.3\n")
  }

  @Test(
    "wrong usage exits with 64 and a message on standard error",
    arguments: [
      ["run"], ["run", "echo"], ["frobnicate"], ["exec", "x"], ["kill"], ["kill", "--all", "x"],
      ["run", "-e", "=x", "--", "ls"],
      ["exec", "x", "-d", "-t", "--", "ls"], ["run", "--vcpus", "many", "--", "ls"],
      ["shell", "x", "--template", "base"],
      ["cp", "a", "b"], ["cp", "x:/a", "x:/b"], ["up", "--listen", "nowhere"], ["up", "--accelerator", "gpu"],
      ["template", "build", "../evil", "--from", "/"], ["template", "build", "ok", "--from", "/does/not/exist"],
    ])
  func usage(_ arguments: [String]) async throws {
    let outcome = try await Invocation.run(
      arguments, environment: ["MARTLET_URL": "http://127.0.0.1:1", "MARTLET_API_KEY": "k"])
    #expect(outcome.code == 64)
    #expect(!outcome.errors.isEmpty && outcome.output.isEmpty)
  }

  @Test("without a server the message names the remedy")
  func noServer() async throws {
    let outcome = try await Invocation.run(
      ["ls"], environment: ["MARTLET_URL": "http://127.0.0.1:1", "MARTLET_API_KEY": "k"])
    #expect(outcome.code == 69)
    #expect(outcome.errors.contains("start one with `martlet up`"))
  }

  @Test("template build passes absolute paths to the executable")
  func build() async throws {
    let outcome = try await Invocation.run(["template", "build", "mine", "--from", "/", "--json"])
    #expect(outcome.code == 0)
    #expect(outcome.text.contains("\"size_bytes\" : 4096"))
  }
}

@Suite("Rendering")
struct RenderingTests {
  @Test("columns are aligned and control characters never reach the terminal")
  func table() {
    let table = Table(header: ["A", "B"], rows: [["long", "x"], ["s", "\u{1B}[2J"]])
    #expect(table.rendered == "A     B\nlong  x\ns     \u{FFFD}[2J")
  }

  @Test(
    "what a terminal would not show as it stands is replaced, and escaped in JSON",
    arguments: [
      "\u{7F}", "\u{85}", "\u{9B}", "\u{AD}", "\u{61C}", "\u{200B}", "\u{200E}", "\u{200F}", "\u{2028}", "\u{2029}",
      "\u{202A}", "\u{202E}", "\u{2060}", "\u{2066}", "\u{2069}", "\u{FEFF}", "\u{E0041}", "\r", "\u{8}",
    ])
  func invisible(_ text: String) throws {
    #expect(Table.printable("a\(text)b") == "a\u{FFFD}b")
    #expect(Table.printableLines("a\(text)\nb") == "a\u{FFFD}\nb")
    #expect(!CopyPath.isVisibleName("a\(text)b"))
    let json = try JSONOutput.text(["name": "a\(text)b"])
    #expect(json.unicodeScalars.allSatisfy { $0.isVisible || $0 == "\n" })
    #expect(try JSONDecoder().decode([String: String].self, from: Data(json.utf8)) == ["name": "a\(text)b"])
  }

  @Test("writing of every kind is shown as it is", arguments: ["né", "日本語", "עברית", "क्‍ष", "👩‍💻", "a b"])
  func visible(_ text: String) throws {
    #expect(Table.printable(text) == text)
    #expect(CopyPath.isVisibleName(text))
    #expect(try JSONOutput.text(text) == "\"\(text)\"")
  }

  @Test(
    "byte counts have a unit",
    arguments: [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (10 << 20, "10 MiB"), (5 << 30, "5.0 GiB")])
  func bytes(_ count: Int64, _ text: String) {
    #expect(Formatting.bytes(count) == text)
  }

  @Test("ages have a unit", arguments: [(5, "5 s"), (300, "5 min"), (7200, "2 h"), (200_000, "2 d"), (-5, "0 s")])
  func ages(_ seconds: Int, _ text: String) throws {
    let start = try #require(Formatting.date("2026-01-02T03:04:05.500Z"))
    #expect(Formatting.age(since: "2026-01-02T03:04:05.5Z", now: start + Double(seconds)) == text)
    #expect(Formatting.age(since: "yesterday") == "-")
  }

  @Test("progress shows share, size and rate")
  func progress() {
    #expect(
      CopyProgress.line("f", done: 1 << 20, expected: 4 << 20, elapsed: .seconds(1))
        == "f  25 %  1.0 MiB of 4.0 MiB  1.0 MiB/s")
    #expect(CopyProgress.line("f", done: 10, expected: nil, elapsed: .zero) == "f  10 B")
  }
}
