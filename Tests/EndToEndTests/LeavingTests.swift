import Glibc
import LinuxSystem
import Testing

/// Checks what a server leaves on the host when it stops.
@Suite(.serialized) struct LeavingTests {
  /// A warm pool would change the number of microVMs at any time.
  private static let environment = ["MARTLET_WARM_POOL": "0"]

  @Test(
    "a server that stops without sandboxes leaves no table, claim, namespace, link, control group or process"
  )
  func nothing() async throws {
    let before = try await HostCensus.take()
    let server = try await MartletServer.start(environment: Self.environment)
    let id = try await server.createSandbox("--memory", "256")
    #expect(try await HostCensus.take() != before)
    try await server.cli("kill", id).expectSuccess()
    #expect(await server.terminate() == .exited(0))
    try await before.awaitSame()
    try server.removeDirectory()
  }

  @Test(
    "a server that stops with a sandbox leaves what the sandbox needs, and the next server removes all of it"
  )
  func sandboxRunsOn() async throws {
    let before = try await HostCensus.take()
    let server = try await MartletServer.start(environment: Self.environment)
    let id = try await server.createSandbox("--memory", "256")
    let during = try await HostCensus.take()
    let serverProcess = "\(server.pid)"
    #expect(await server.terminate() == .exited(0))
    let after = try await HostCensus.take()
    #expect(after == during.without(process: serverProcess), "the running sandbox keeps table, claim and runtime")
    try await server.launch()
    #expect(try await server.shell(id, "echo here") == "here\n")
    try await server.cli("kill", id).expectSuccess()
    #expect(await server.terminate() == .exited(0))
    try await before.awaitSame()
    try server.removeDirectory()
  }

  @Test("a server whose address is in use leaves nothing")
  func addressTaken() async throws {
    let running = try await MartletServer.start()
    let before = try await HostCensus.take()
    let second = try await MartletServer.start(port: running.port, awaitingHealth: false)
    #expect(await second.awaitEnd() != .exited(0))
    try await before.awaitSame()
    try second.removeDirectory()
    try await running.stop()
  }
}
