import Glibc
import LinuxSystem
import SystemPackage
import TestSupport
import Testing

/// One server and one sandbox that pass through many crash points, so that each crash starts from the state that the
/// previous one left.
struct CrashStage {
  static let deadline: Duration = .seconds(60)

  let server: MartletServer
  let id: String
  /// Censuses of the host: with the template's snapshot before the sandbox exists, and while the sandbox runs.
  let empty: Census
  let running: Census

  /// Whether the sandbox has been restored and therefore has a pager.
  static func make() async throws -> CrashStage {
    let server = try await MartletServer.start(executable: CrashSteps.executable)
    let empty = try await Census.take(server)
    let id = try await server.createSandbox("--memory", "256")
    _ = try await server.shell(id, "echo memory > /dev/shm/kept; echo disk > /var/tmp/kept; sync")
    try await server.cli("exec", "--detach", id, "--", "sh", "-c", counting).expectSuccess()
    try await eventually("it counts") { try await server.cli("exec", id, "--", "cat", "/tmp/count").isSuccess }
    try await server.pause(id)
    try await server.resume(id)
    return CrashStage(server: server, id: id, empty: empty, running: try await Census.take(server))
  }

  private static let counting =
    "i=0; while true; do i=$((i+1)); echo $i > /tmp/count.new; mv /tmp/count.new /tmp/count; sleep 0.1; done"

  /// For each crash point: starts a server, runs `operation` until the server crashes there, starts another server, and
  /// runs `check`.
  func walk(
    _ points: [String], operation: (MartletServer) async throws -> Void, check: (_ point: String) async throws -> Void
  ) async throws {
    for point in points {
      try await die(at: point, operation: operation)
      try await server.launch()
      do {
        try await check(point)
      } catch {
        throw TestFailure("after \(point): \(error)")
      }
    }
  }

  /// Starts a server that crashes at `point`, and repeats `operation` until it does. The response is lost in the crash,
  /// or reports that an earlier operation is not finished.
  func die(at point: String, operation: (MartletServer) async throws -> Void) async throws {
    await server.killHard()
    try await server.launch(environment: ["CRASH_AT": point])
    let hasEnded = try await Patience.waiting(for: Self.deadline, every: .milliseconds(20)) {
      if server.hasEnded { return true }
      try? await operation(server)
      return server.hasEnded
    }
    guard hasEnded else { throw TestFailure("the server did not come to \(point)") }
    #expect(await server.awaitEnd() == .signaled(SIGKILL), "\(point)")
  }

  /// Starts a server that crashes at `point` before it accepts requests.
  func dieStarting(at point: String) async throws {
    await server.killHard()
    try await server.launch(environment: ["CRASH_AT": point], awaitingHealth: false)
    #expect(await server.awaitEnd() == .signaled(SIGKILL), "\(point)")
  }

  /// Checks that the sandbox runs intact with its former VMM and pager.
  func expectAdopted(_ machines: [Int32], _ pagers: [Int32], _ point: String) async throws {
    #expect(server.machines == machines && server.pagers == pagers, "adopted, not made anew: \(point)")
    #expect(try await server.settled(id) == "running", "\(point)")
    try await expectContent(of: id)
  }

  /// Checks that the files in memory and on disk exist, and that the process still counts.
  func expectContent(of id: String) async throws {
    let script =
      "cat /dev/shm/kept /var/tmp/kept; a=$(cat /tmp/count); while [ $(cat /tmp/count) = $a ]; do sleep 0.05; done; "
      + "echo goes on"
    #expect(try await server.shell(id, script) == "memory\ndisk\ngoes on\n")
  }

  /// Checks that the snapshot store has no incomplete generations.
  func expectTidy() async throws {
    try await eventually("drafts and trash are empty") {
      server.stored("drafts").isEmpty && server.stored("trash").isEmpty
    }
  }

  /// Destroys the sandbox and checks that the crashes left nothing but the template's snapshot.
  func finish() async throws {
    try await server.cli("kill", "--all").expectSuccess()
    try await empty.awaitSame(server, descriptorSlack: 64)
    try await eventually("only the template's snapshot is left") {
      server.stored("generations").count == 1
    }
    try await expectTidy()
    try await server.stop()
  }
}
