import LinuxSystem
import TestSupport
import Testing

@Suite(.serialized) struct PostgresServerTests {
  @Test(
    "on PostgreSQL sandboxes survive kill -9 of database and server, and doctor checks the database"
  )
  func survives() async throws {
    let postgres = try await PrivatePostgres.start()
    let database = [
      "DATABASE_URL": postgres.url(database: try await postgres.makeDatabase()),
      "MARTLET_JWT_SECRET": String(repeating: "secret of all control planes ", count: 2),
    ]
    let server = try await MartletServer.start(environment: database)
    let before = try await Census.take(server)
    let id = try await server.createSandbox("--memory", "256")
    #expect(try await server.doctor(database).contains("PostgreSQL 1"))
    try await postgres.kill()
    #expect(try await server.doctor(database).contains("does not respond"))
    let response = try await server.request(.GET, "/v1/sandboxes/\(id)")
    #expect(response.status == 503)
    try await postgres.restart()
    try await eventually("the server uses the database again") {
      try await server.info(id)["status"] as? String == "running"
    }
    await server.killHard()
    try await server.launch()
    #expect(try await server.shell(id, "echo here") == "here\n")
    try await server.cli("kill", id).expectSuccess()
    try await before.awaitSame(server, descriptorSlack: 32)
    try await server.stop()
    await postgres.stop()
  }
}

extension MartletServer {
  fileprivate func doctor(_ environment: [String: String]) async throws -> String {
    let output = try await Tool.run(
      Self.binary, ["doctor"], environment: clientEnvironment.merging(environment) { $1 }, deadline: .seconds(60))
    return output.outputText
  }
}
