import Foundation
import LinuxSystem
import SystemPackage
import TestSupport
import Testing

/// Tests accounts, keys and secrets of a real server with the CLI.
@Suite(.serialized) struct PeopleTests {
  @Test(
    "the first administrator logs in, creates keys and accounts; sessions remain valid after a restart"
  )
  func accounts() async throws {
    let server = try await MartletServer.start()
    let credentials = try server.credentials()
    #expect(Set(credentials.keys).isSuperset(of: ["api_key", "admin_email", "admin_password", "url"]))
    #expect(
      try FileStatus.of(server.directory.appending("data/credentials.json").string, followingLinks: false)?.mode
        == 0o600)
    #expect(
      try FileStatus.of(server.directory.appending("data/jwt-secret").string, followingLinks: false)?.mode == 0o600)
    let (email, password) = (try #require(credentials["admin_email"]), try #require(credentials["admin_password"]))
    #expect(try await server.people("login", "--email", email, input: "wrong password\n").isSuccess == false)
    try await server.people("login", "--email", email, input: "\(password)\n").expectSuccess()
    let key = try await server.people("key", "create", "mine", "--json").json()
    let (secret, id) = (try #require(key["key"] as? String), try #require(key["id"] as? String))
    #expect(try await server.status(key: secret) == 200)
    await server.terminate()
    try await server.launch()
    #expect(try await server.people("key", "ls").outputText.contains(id))
    try await server.people("key", "rm", id).expectSuccess()
    #expect(try await server.status(key: secret) == 401)
    #expect(try await server.status(key: try server.apiKey) == 200)
    try await server.people(
      "user", "create", "--email", "second@example.com", "--admin", "--local", input: "correct horse\n"
    )
    .expectSuccess()
    try await server.people("login", "--email", "second@example.com", input: "correct horse\n").expectSuccess()
    let users = try await server.people("user", "ls").outputText
    #expect(users.contains("second@example.com") && users.contains(email))
    try await server.stop()
  }

  @Test("with a shared database a missing or short secret prevents the start, with the remedy")
  func sharedSecret() async throws {
    let postgres = try await PrivatePostgres.start()
    let database = ["DATABASE_URL": postgres.url(database: try await postgres.makeDatabase())]
    for secret in [nil, "short"] {
      let environment = secret.map { database.merging(["MARTLET_JWT_SECRET": $0]) { $1 } } ?? database
      let server = try await MartletServer.start(environment: environment, awaitingHealth: false)
      #expect(await server.awaitEnd() != .exited(0))
      #expect(
        server.logTail.contains("MARTLET_JWT_SECRET") && server.logTail.contains("openssl rand -hex 32"),
        "\(server.logTail)")
      try server.removeDirectory()
    }
    await postgres.stop()
  }
}

extension MartletServer {
  fileprivate func credentials() throws -> [String: String] {
    let bytes = try SmallFile.read(directory.appending("data/credentials.json").string)
    return try JSONDecoder().decode([String: String].self, from: Data(bytes))
  }

  fileprivate func status(key: String) async throws -> Int {
    try await request(.GET, "/v1/sandboxes", headers: ["X-API-Key": key]).status
  }

  /// Runs the CLI with a home directory of its own for the session.
  @discardableResult
  fileprivate func people(_ arguments: String..., input: String? = nil) async throws -> ToolOutput {
    let home = ["XDG_CONFIG_HOME": directory.appending("config").string]
    return try await Tool.run(
      Self.binary, arguments, environment: clientEnvironment.merging(home) { $1 }, input: input, deadline: .seconds(60))
  }
}

extension ToolOutput {
  fileprivate func json() throws -> [String: Any] {
    try expectSuccess()
    return (try JSONSerialization.jsonObject(with: Data(standardOutput)) as? [String: Any]) ?? [:]
  }
}
