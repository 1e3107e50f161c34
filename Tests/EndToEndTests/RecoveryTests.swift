import Foundation
import Glibc
import LinuxSystem
import NIOCore
import SystemPackage
import Testing

@Suite(.serialized) struct RecoveryTests {
  private static let counter = "i=0; while true; do i=$((i+1)); echo $i > /tmp/count; sleep 0.1; done"

  private func count(_ server: MartletServer, _ id: String) async throws -> Int {
    Int(try await server.shell(id, "cat /tmp/count").trimmingCharacters(in: .whitespacesAndNewlines)) ?? 0
  }

  @Test(
    "five sandboxes and their processes survive kill -9 of the server; destroying them leaves nothing"
  )
  func serverKilled() async throws {
    let server = try await MartletServer.start()
    let before = try await Census.take(server)
    var ids: [String] = []
    for _ in 0..<5 {
      let id = try await server.createSandbox("--memory", "256")
      try await server.cli("exec", "--detach", id, "--", "sh", "-c", Self.counter).expectSuccess()
      ids.append(id)
    }
    var counts: [String: Int] = [:]
    for id in ids {
      try await eventually("the counter counts") { try await count(server, id) > 0 }
      counts[id] = try await count(server, id)
    }
    await server.killHard()
    try await server.launch()
    for id in ids {
      #expect(try await server.info(id)["status"] as? String == "running")
      let reached = counts[id] ?? 0
      try await eventually("the same process counts on") { try await count(server, id) > reached }
    }
    try await server.cli(["kill"] + ids).expectSuccess()
    try await before.awaitSame(server, descriptorSlack: 32)
    try await server.stop()
  }

  @Test("after kill -9 of a VMM the sandbox is in error with the reason within 5 s, and its resources are released")
  func machineKilled() async throws {
    let server = try await MartletServer.start()
    let before = try await Census.take(server)
    let id = try await server.createSandbox("--memory", "256")
    let machine = try #require(server.machines.first)
    kill(machine, SIGKILL)
    try await eventually("the status is error", within: .seconds(5)) {
      try await server.info(id)["status"] as? String == "error"
    }
    let reason = "\(try await server.info(id))"
    #expect(reason.contains("signal 9"))
    let response = try await server.request(.POST, "/v1/sandboxes/\(id)/exec", body: #"{"cmd":"true"}"#)
    #expect(response.status == 409)
    try await server.cli("kill", id).expectSuccess()
    try await before.awaitSame(server)
    try await server.stop()
  }

  @Test("a sandbox whose guest powers off is in error with that reason")
  func guestEnds() async throws {
    let server = try await MartletServer.start()
    let id = try await server.createSandbox("--memory", "256")
    _ = try await server.cli("exec", "--detach", id, "--", "sh", "-c", "sleep 0.2; echo c > /proc/sysrq-trigger")
    try await eventually("the status is error", within: .seconds(15)) {
      try await server.info(id)["status"] as? String == "error"
    }
    #expect("\(try await server.info(id))".contains("panicked"))
    try await server.stop()
  }

  @Test("a server that crashes at any step of a create leaves nothing", arguments: CrashSteps.making)
  func diesCreating(step: String) async throws {
    let server = try await MartletServer.start(executable: CrashSteps.executable)
    let before = try await Census.take(server)
    await server.killHard()
    try await server.launch(environment: ["CRASH_AT": step])
    _ = try? await server.request(.POST, "/v1/sandboxes", body: #"{"memory_mb":256}"#, deadline: .seconds(60))
    #expect(await server.awaitEnd() == .signaled(SIGKILL))
    try await server.launch()
    struct Sandbox: Decodable { let id: String, status: String }
    try await eventually("the row tells the truth") {
      let rows = try JSONDecoder().decode([Sandbox].self, from: try await server.request(.GET, "/v1/sandboxes").body)
      return rows.allSatisfy { $0.status == "running" }
    }
    try await server.cli("kill", "--all").expectSuccess()
    try await before.awaitSame(server, descriptorSlack: 32)
    try await server.stop()
  }

  @Test("a server that crashes at any step of a destroy completes it after the next start")
  func diesDestroying() async throws {
    let server = try await MartletServer.start(executable: CrashSteps.executable)
    let before = try await Census.take(server)
    for step in CrashSteps.removing {
      await server.killHard()
      try await server.launch(environment: ["CRASH_AT": step])
      let id = try await server.createSandbox("--memory", "256")
      _ = try? await server.request(.DELETE, "/v1/sandboxes/\(id)", deadline: .seconds(60))
      #expect(await server.awaitEnd() == .signaled(SIGKILL), "\(step)")
      try await server.launch()
      try await eventually("the sandbox is stopped after \(step)") {
        try await server.info(id)["status"] as? String == "stopped"
      }
      try await before.awaitSame(server, descriptorSlack: 32)
    }
    try await server.stop()
  }
}
