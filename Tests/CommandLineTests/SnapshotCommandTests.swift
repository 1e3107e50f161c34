import Concurrency
import FakeServer
import Foundation
import Testing

@testable import CommandLine

@Suite("Pause and snapshots", .timeLimit(.minutes(1)))
struct SnapshotCommandTests {
  private func object(_ text: String) throws -> [String: Any] {
    try #require(try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any])
  }

  @Test("pause and resume print the id, the state and the time, or the sandbox as JSON")
  func cycle() async throws {
    let server = FakeMartlet()
    let id = server.addSandbox()
    #expect(try await Invocation.run(["pause", String(id.prefix(9))], on: server).text == "\(id)  paused  12 ms\n")
    let info = try await Invocation.run(["info", id], on: server).text
    #expect(info.contains("paused by      idle time") && info.contains("auto-resume    yes"))
    #expect(try await Invocation.run(["resume", id], on: server).text == "\(id)  running  30 ms\n")
    #expect(server.state.withLock { $0.bodies } == ["", ""])
    let json = try object(try await Invocation.run(["pause", id, "--json"], on: server).text)
    #expect((json["timings_ms"] as? [String: Double])?["save_memory"] == 10)
    #expect(json["auto_paused"] as? Bool == true)
  }

  @Test("resume --previous requests the previous generation")
  func previous() async throws {
    let server = FakeMartlet()
    let id = server.addSandbox()
    _ = try await Invocation.run(["pause", id], on: server)
    _ = try await Invocation.run(["resume", "--previous", id], on: server)
    #expect(server.state.withLock { $0.bodies.last } == #"{"generation":"previous"}"#)
  }

  @Test(
    "an error about a wrong state keeps the server's message and its exit code",
    arguments: [["resume"], ["ping"], ["pause"]])
  func wrongState(_ command: [String]) async throws {
    let server = FakeMartlet()
    let id = server.addSandbox()
    if command != ["resume"] { _ = try await Invocation.run(["pause", id], on: server) }
    let outcome = try await Invocation.run(command + [id], on: server)
    #expect(outcome.code == 75 && outcome.output.isEmpty)
    #expect(outcome.errors.contains("this operation needs a sandbox that is"))
  }

  @Test("ping and timeout print the id")
  func idle() async throws {
    let server = FakeMartlet()
    let id = server.addSandbox()
    #expect(try await Invocation.run(["ping", id], on: server).text == "\(id)\n")
    #expect(try object(try await Invocation.run(["ping", id, "--json"], on: server).text)["id"] as? String == id)
    #expect(try await Invocation.run(["timeout", id, "90"], on: server).text == "\(id)\n")
    #expect(server.state.withLock { $0.bodies.last } == #"{"timeout_sec":90}"#)
  }

  @Test("fork prints the copies; fewer than requested is an error with the remedy")
  func fork() async throws {
    let server = FakeMartlet()
    let id = server.addSandbox()
    let outcome = try await Invocation.run(["fork", id, "--count", "3"], on: server)
    #expect(outcome.code == 0)
    #expect(outcome.text == server.state.withLock { $0.sandboxes.dropFirst().joined(separator: "\n") } + "\n")
    server.state.withLock { $0.maximumCopies = 1 }
    let partial = try await Invocation.run(["fork", id, "--count", "2", "--json"], on: server)
    #expect(partial.code == 69)
    #expect((try JSONSerialization.jsonObject(with: Data(partial.output)) as? [Any])?.count == 1)
    #expect(partial.errors.contains("1 of 2 copies failed") && partial.errors.contains("ls --status error"))
  }

  @Test("snapshots are created, replaced, listed and deleted")
  func snapshots() async throws {
    let server = FakeMartlet()
    let id = server.addSandbox()
    #expect(try await Invocation.run(["snapshot", "create", id], on: server).text == "snap-00000001\n")
    #expect(try await Invocation.run(["snapshot", "create", id, "--name", "golden"], on: server).text == "golden\n")
    let again = try await Invocation.run(["snapshot", "create", id, "--name", "golden"], on: server)
    #expect(again.code == 73 && again.errors.contains("exists"))
    #expect(
      try await Invocation.run(["snapshot", "create", id, "--name", "golden", "--overwrite"], on: server).code == 0)
    let list = try await Invocation.run(["snapshot", "ls"], on: server).text
    #expect(list.contains("golden") && list.contains("512 MiB") && !list.contains("minimal"))
    #expect(try await Invocation.run(["snapshot", "ls", "-q"], on: server).text == "snap-00000001\ngolden\n")
    let removed = try await Invocation.run(["snapshot", "rm", "golden", "nope", "minimal"], on: server)
    #expect(removed.code == 66 && removed.text == "golden\n")
    #expect(removed.errors.contains("nope") && removed.errors.contains("platform"))
    let json = try object(try await Invocation.run(["snapshot", "rm", "snap-00000001", "--json"], on: server).text)
    #expect(json["deleted"] as? [String] == ["snap-00000001"])
  }

  @Test("create sends time-out and auto-resume")
  func create() async throws {
    let server = FakeMartlet()
    _ = try await Invocation.run(["create", "--template", "golden", "--timeout", "60", "--auto-resume"], on: server)
    let body = try object(server.state.withLock { $0.bodies.last } ?? "")
    #expect(
      body["template"] as? String == "golden" && body["timeout_sec"] as? Int == 60
        && body["auto_resume"] as? Bool == true)
  }

  @Test(
    "wrong usage exits with 64 before any request",
    arguments: [
      ["pause"], ["resume"], ["fork", "x", "--count", "0"], ["fork", "x", "--count", "101"], ["timeout", "x"],
      ["timeout", "x", "-5"],
      ["timeout", "x", "2592001"], ["snapshot", "create", "x", "--overwrite"],
      ["snapshot", "create", "x", "--name", "../evil"],
      ["snapshot", "rm"], ["snapshot", "rm", "../../v1/sandboxes"], ["snapshot", "frobnicate"],
    ])
  func usage(_ arguments: [String]) async throws {
    let server = FakeMartlet()
    let outcome = try await Invocation.run(arguments, on: server)
    #expect(outcome.code == 64)
    #expect(!outcome.errors.isEmpty && outcome.output.isEmpty)
    #expect(server.state.withLock { $0.requests }.isEmpty)
  }
}
