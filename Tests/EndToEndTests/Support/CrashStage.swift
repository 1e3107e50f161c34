import Glibc
import LinuxSystem
import SystemPackage
import Testing

/// One server and one sandbox that are led through many crash points, one after the other, so that what one leaves the
/// next one finds.
struct CrashStage {
  static let deadline: Duration = .seconds(60)

  let server: MartletServer
  let id: String
  /// The host before there was the sandbox, but with its template's snapshot, and while it runs.
  let empty: Census
  let running: Census

  /// The sandbox has been restored, so that it has a pager.
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

  /// For each point: a server that dies there is led there by `operation`, another one is started, and `check` looks.
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

  /// Starts a server that dies at `point`. `operation` is asked for until it gets there: its answer is lost with the
  /// server, or says that something before it is not done yet.
  func die(at point: String, operation: (MartletServer) async throws -> Void) async throws {
    await server.killHard()
    try await server.launch(environment: ["CRASH_AT": point])
    let end = ContinuousClock.now + Self.deadline
    while !server.hasEnded {
      guard ContinuousClock.now < end else { throw TestFailure("the server did not come to \(point)") }
      try? await operation(server)
      try await Task.sleep(for: .milliseconds(20))
    }
    #expect(await server.awaitEnd() == .signaled(SIGKILL), "\(point)")
  }

  /// Starts a server that dies at `point` before it serves anybody.
  func dieStarting(at point: String) async throws {
    await server.killHard()
    try await server.launch(environment: ["CRASH_AT": point], awaitingHealth: false)
    #expect(await server.awaitEnd() == .signaled(SIGKILL), "\(point)")
  }

  /// The sandbox runs on as what it was, under the VMM and the pager that it had.
  func expectAdopted(_ machines: [Int32], _ pagers: [Int32], _ point: String) async throws {
    #expect(server.machines == machines && server.pagers == pagers, "adopted, not made anew: \(point)")
    #expect(try await server.settled(id) == "running", "\(point)")
    try await expectContent(of: id)
  }

  /// Files of memory and disk are there, and the process counts on.
  func expectContent(of id: String) async throws {
    let script =
      "cat /dev/shm/kept /var/tmp/kept; a=$(cat /tmp/count); while [ $(cat /tmp/count) = $a ]; do sleep 0.05; done; echo goes on"
    #expect(try await server.shell(id, script) == "memory\ndisk\ngoes on\n")
  }

  /// Nothing half-made is left in the store.
  func expectTidy() async throws {
    try await eventually("drafts and trash are empty") {
      server.stored("drafts").isEmpty && server.stored("trash").isEmpty
    }
  }

  /// The sandbox goes, and with it all that any of the crashes had left but the template's snapshot.
  func finish() async throws {
    try await server.cli("kill", "--all").expectSuccess()
    try await empty.awaitSame(server, descriptorSlack: 64)
    try await eventually("only the template's snapshot is left") {
      server.stored("generations").count == 1 && server.stored("disk-layers").count <= 1
    }
    try await expectTidy()
    try await server.stop()
  }
}
