import LinuxSystem
import Testing

/// Provides one server for all tests of a suite, and checks at the end that stopping it leaves nothing on the host.
struct RunningServer: SuiteTrait, TestScoping {
  func provideScope(
    for test: Test, testCase: Test.Case?, performing function: @Sendable () async throws -> Void
  ) async throws {
    let host = try await HostCensus.take()
    let server = try await MartletServer.start()
    let before = try await Census.take(server)
    do {
      try await MartletServer.$current.withValue(server) { try await function() }
    } catch {
      try? await server.stop()
      throw error
    }
    try await server.cli("kill", "--all").expectSuccess()
    try await before.awaitSame(server, descriptorSlack: 32)
    try await server.stop()
    try await host.awaitSame()
  }
}

extension Trait where Self == RunningServer {
  static var runningServer: Self { Self() }
}

/// The suite's server.
func currentServer() throws -> MartletServer {
  guard let server = MartletServer.current else { throw TestFailure("the suite lacks .runningServer") }
  return server
}

/// Creates a sandbox for one test and destroys it afterwards in every case.
func withSandbox(_ arguments: String..., body: (MartletServer, String) async throws -> Void) async throws {
  let server = try currentServer()
  let output = try await server.cli(["create", "--json"] + arguments)
  try output.expectSuccess()
  let id = try #require(try jsonObject(output.standardOutput)["id"] as? String)
  do {
    try await body(server, id)
  } catch {
    _ = try? await server.cli("kill", id)
    throw error
  }
  try await server.cli("kill", id).expectSuccess()
}
