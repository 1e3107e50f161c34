import APIClient
import Concurrency
import Foundation
import Glibc
import Testing

@testable import CommandLine

@Suite("Settings")
struct SettingsTests {
  @Test("options take precedence over the environment, the environment over .env, .env over defaults")
  func precedence() throws {
    let settings = Settings(
      environment: ["MARTLET_LISTEN": "e:1"], file: ["MARTLET_LISTEN": "f:1", "MARTLET_DATA_DIR": "/f"])
    #expect(settings.value(.listen, option: "o:1") == "o:1")
    #expect(settings.value(.listen) == "e:1")
    #expect(settings.value(.dataDirectory) == "/f")
    #expect(settings.value(.imageDirectory) == nil)
    #expect(Settings(environment: ["MARTLET_LISTEN": ""], file: ["MARTLET_LISTEN": "f:1"]).value(.listen) == "f:1")
  }

  @Test("an unknown name is refused with a suggestion")
  func unknown() {
    let inEnvironment = #expect(throws: APIError.self) {
      try Settings(environment: ["MARTLET_LISTN": "x"], file: [:]).refuseUnknownNames()
    }
    #expect(inEnvironment?.message.contains("did you mean MARTLET_LISTEN?") == true)
    let inFile = #expect(throws: APIError.self) {
      try Settings(environment: [:], file: ["DATABASE_URI": "x"]).refuseUnknownNames()
    }
    #expect(inFile?.message.contains("in .env") == true)
    #expect(inFile?.message.contains("did you mean DATABASE_URL?") == true)
    #expect(throws: Never.self) {
      try Settings(environment: ["PATH": "x"], file: ["MARTLET_URL": "x"]).refuseUnknownNames()
    }
  }

  @Test("up passes on the values of options, environment and .env")
  func upOptions() async throws {
    try await Invocation.inDirectory { directory in
      try Data("MARTLET_LOG_LEVEL=debug\nMARTLET_DATA_DIR=data\n".utf8).write(to: URL(filePath: "\(directory)/.env"))
      let seen = Mutex<UpOptions?>(nil)
      let local = LocalServices(
        version: "1", up: { options in seen.withLock { $0 = options } },
        buildTemplate: { _ in throw CancellationError() })
      let context = CommandContext(
        environment: ["MARTLET_ACCELERATOR": "tcg"], workingDirectory: directory, input: 0, output: -1, error: -1)
      let code = await runCommandLine(["up", "--listen", "[::1]:0", "--no-demo"], local: local, context: context)
      #expect(code == 0)
      let expected = UpOptions(
        listen: ListenAddress(host: "::1", port: 0), dataDirectory: "\(directory)/data",
        imageDirectory: "/var/lib/martlet/images",
        accelerator: .tcg, logLevel: "debug", showsDemo: false)
      #expect(seen.withLock { $0 } == expected)
    }
  }

  @Test("the database is SQLite unless DATABASE_URL names a PostgreSQL database")
  func database() throws {
    let empty = Settings(environment: [:], file: [:])
    #expect(try DatabaseChoice(settings: empty) == .embedded)
    let settings = Settings(
      environment: ["DATABASE_URL": "postgres://e"], file: ["DATABASE_URL": "postgres://f", "PGPASSWORD": "p"])
    #expect(try DatabaseChoice(settings: settings) == .postgres(url: "postgres://e", password: "p"))
    #expect(
      try DatabaseChoice(settings: settings, option: "postgresql://o")
        == .postgres(url: "postgresql://o", password: "p"))
    let refused = #expect(throws: APIError.self) {
      try DatabaseChoice(settings: empty, option: "mysql://user:secret@host/db")
    }
    #expect(refused?.message.contains("secret") == false)
  }

  @Test("up refuses a .env with an unknown name, other commands ignore it")
  func typingError() async throws {
    try await Invocation.inDirectory { directory in
      try Data("MARTLET_LISTTEN=x\nMARTLET_URL=http://127.0.0.1:1\nMARTLET_API_KEY=k\n".utf8).write(
        to: URL(filePath: "\(directory)/.env"))
      let context = CommandContext(environment: [:], workingDirectory: directory, input: 0, output: -1, error: -1)
      #expect(await runCommandLine(["up"], local: Invocation.services, context: context) == 64)
      #expect(await runCommandLine(["ls"], local: Invocation.services, context: context) == 69)
    }
  }

  @Test(
    "a password in --database-url is refused, since every user can read command lines",
    arguments: [
      "postgres://user:secret@host/db", "postgresql://user:secret@host:5432/db?sslmode=require",
      "postgres://host/db?user=u&password=secret", "postgres://u@host/db?sslpassword=secret",
    ])
  func databasePassword(_ url: String) throws {
    let refused = #expect(throws: APIError.self) {
      try DatabaseChoice(settings: Settings(environment: [:], file: [:]), option: url)
    }
    #expect(refused?.message.contains("PGPASSWORD") == true)
    #expect(refused?.message.contains("secret") == false)
    let environment = Settings(environment: ["DATABASE_URL": url], file: [:])
    #expect(try DatabaseChoice(settings: environment) == .postgres(url: url, password: nil))
  }

  @Test("a user name, a port and other parameters are no password")
  func noPassword() {
    for url in ["postgres://user@host:5432/db?sslmode=require", "postgres://host:5432/db", "postgres:///db?host=/run"] {
      #expect(!DatabaseChoice.hasPassword(url), "\(url)")
    }
  }

  @Test(
    "listen addresses",
    arguments: [("127.0.0.1:8080", "127.0.0.1", 8080), ("[::1]:0", "::1", 0), ("host:65535", "host", 65_535)])
  func listen(_ text: String, _ host: String, _ port: Int) throws {
    #expect(try ListenAddress(text) == ListenAddress(host: host, port: port))
  }

  @Test("images passes on an absolute directory")
  func images() async throws {
    let seen = Mutex("")
    let local = LocalServices(
      version: "1", up: { _ in }, buildImages: { directory in seen.withLock { $0 = directory } },
      buildTemplate: { _ in throw CancellationError() })
    let context = CommandContext(environment: [:], workingDirectory: "/there", input: 0, output: -1, error: -1)
    #expect(await runCommandLine(["images", "--image-dir", "a/../b"], local: local, context: context) == 0)
    #expect(seen.withLock { $0 } == "/there/b")
  }

  @Test(
    "invalid listen addresses are refused",
    arguments: ["", ":", ":80", "host", "host:", "host:65536", "host:-1", "::1:80", "a b:1", "host:08x"])
  func listenRefused(_ text: String) {
    #expect(throws: APIError.self) { try ListenAddress(text) }
  }
}

@Suite("Trust in .env")
struct EnvironmentFileTrustTests {
  private static let other: UInt32 = 12_345

  /// What is wrong with a `.env` that a change makes, in a directory that is root's.
  private func refusal(
    userID: UInt32 = 0, sudoUserID: String? = nil, _ change: (_ directory: String, _ file: String) -> Void
  ) async throws -> String? {
    try #require(getuid() == 0, "files are given to other users; run the tests as root")
    let result = Mutex<String?>(nil)
    try await Invocation.inDirectory { directory in
      let file = "\(directory)/.env"
      try Data("MARTLET_LOG_LEVEL=debug\n".utf8).write(to: URL(filePath: file))
      chmod(file, 0o600)
      chmod(directory, 0o755)
      change(directory, file)
      do throws(UntrustedEnvironmentFile) {
        try EnvironmentFileTrust(userID: userID, sudoUserID: sudoUserID).check(directory: directory)
      } catch {
        result.withLock { $0 = error.message }
      }
    }
    return result.withLock { $0 }
  }

  @Test("root reads its own .env in its own directory")
  func own() async throws {
    #expect(try await refusal { _, _ in } == nil)
    #expect(try await refusal { directory, _ in chmod(directory, 0o1777) } == nil)
  }

  @Test("root reads none of another user, unless that user called sudo")
  func foreign() async throws {
    let message = try await refusal { _, file in chown(file, Self.other, Self.other) }
    #expect(message?.contains("/.env is not read by root") == true && message?.contains("chown root") == true)
    #expect(try await refusal { directory, _ in chown(directory, Self.other, Self.other) } != nil)
    let bySudo = try await refusal(sudoUserID: "\(Self.other)") { directory, file in
      for path in [directory, file] { chown(path, Self.other, Self.other) }
    }
    #expect(bySudo == nil)
  }

  @Test("root reads none that others can write or replace")
  func writable() async throws {
    #expect(try await refusal { _, file in chmod(file, 0o660) }?.contains("chmod go-w") == true)
    #expect(try await refusal { _, file in chmod(file, 0o602) } != nil)
    #expect(try await refusal { directory, _ in chmod(directory, 0o777) } != nil)
    #expect(try await refusal { directory, _ in chmod(directory, 0o775) } != nil)
  }

  @Test("other users read what lies in their directory")
  func users() async throws {
    #expect(try await refusal(userID: 1_000) { _, file in chmod(file, 0o666) } == nil)
  }

  @Test("up ends with an error over an untrusted .env, and a client command goes on without it")
  func commands() async throws {
    try await Invocation.inDirectory { directory in
      let file = "\(directory)/.env"
      try Data("MARTLET_URL=http://127.0.0.1:1\nMARTLET_API_KEY=k\n".utf8).write(to: URL(filePath: file))
      chown(file, Self.other, Self.other)
      var context = CommandContext(environment: [:], workingDirectory: directory, input: 0, output: -1, error: -1)
      context.trust = EnvironmentFileTrust(userID: 0, sudoUserID: nil)
      #expect(await runCommandLine(["up"], local: Invocation.services, context: context) == 64)
      // Without the file it has no credentials, or those of this machine.
      #expect(await runCommandLine(["ls"], local: Invocation.services, context: context) != 64)
    }
  }
}

@Suite(".env files")
struct EnvironmentFileTests {
  @Test("all forms of a line are parsed")
  func forms() throws {
    let text = """
      # comment
      A=1
      export B = two words # comment
      C="quoted # not a comment\\n\\"x\\" \\$y"
      D='literal \\n $x' # comment
      E=
      F=a#b
      """
    #expect(
      try EnvironmentFile.parse(text) == [
        "A": "1", "B": "two words", "C": "quoted # not a comment\n\"x\" $y", "D": "literal \\n $x", "E": "", "F": "a#b",
      ])
  }

  @Test("files with other line ends are parsed")
  func carriageReturns() throws {
    #expect(try EnvironmentFile.parse("A=1\r\nB=2\r\n") == ["A": "1", "B": "2"])
  }

  @Test(
    "the error about a malformed line has its number",
    arguments: ["novalue", "1A=x", "A-B=x", "A=\"open", "A=\"x\" y", "A=\"\\q\"", "=x"])
  func malformed(_ line: String) {
    let error = #expect(throws: APIError.self) { try EnvironmentFile.parse("OK=1\n\(line)") }
    #expect(error?.message.contains("line 2") == true)
  }
}

@Suite("Host options")
struct HostOptionsTests {
  private let shared = DatabaseChoice.postgres(url: "postgres://x", password: nil)

  private func options(
    _ environment: [String: String], listen: String? = nil, address: String? = nil
  ) throws -> HostOptions {
    try HostOptions(
      settings: Settings(environment: environment, file: [:]), listen: listen, address: address, database: shared)
  }

  @Test("the default is any free port of loopback; options and variables take precedence")
  func defaults() throws {
    #expect(try options([:]) == HostOptions(listen: ListenAddress(host: "127.0.0.1", port: 0)))
    let both = ["MARTLET_HOST_LISTEN": "10.0.0.1:4000", "MARTLET_HOST_ADDRESS": "host.example:0"]
    #expect(try options(both).listen == ListenAddress(host: "10.0.0.1", port: 4000))
    #expect(try options(both, listen: "10.0.0.2:0", address: "[fd00::1]:7").listen.host == "10.0.0.2")
    #expect(try options(both, address: "[fd00::1]:7").address == ListenAddress(host: "fd00::1", port: 7))
  }

  @Test("the advertised address is the listen address or the configured one, with the bound port")
  func advertised() throws {
    #expect(try options([:]).advertised(port: 7).description == "127.0.0.1:7")
    #expect(
      try options([:], listen: "0.0.0.0:0", address: "10.0.0.5:0").advertised(port: 7).description == "10.0.0.5:7")
    #expect(try options([:], address: "[fd00::1]:9").advertised(port: 7).description == "[fd00::1]:9")
  }

  @Test("wildcard addresses are refused with the remedy", arguments: ["0.0.0.0:0", "[::]:4000", "*:1"])
  func wildcards(address: String) {
    let refused = #expect(throws: APIError.self) { try options([:], listen: address) }
    #expect(refused?.message.contains("--host-address") == true)
    #expect(throws: APIError.self) { try options([:], address: address) }
  }

  @Test("host options without a shared database are refused")
  func embedded() throws {
    let settings = Settings(environment: ["MARTLET_HOST_LISTEN": "127.0.0.1:1"], file: [:])
    let refused = #expect(throws: APIError.self) { try HostOptions(settings: settings, database: .embedded) }
    #expect(refused?.message.contains("DATABASE_URL") == true)
    #expect(try HostOptions(settings: Settings(environment: [:], file: [:]), database: .embedded) == HostOptions())
  }
}
