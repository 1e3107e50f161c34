import Foundation
import Glibc
import LinuxSystem
import NIOCore
import SystemPackage
import Testing

/// Tests pause, resume and clones with real microVMs, memory and disks.
@Suite(.serialized) struct SnapshotTests {
  @Test(
    "memory, files, processes and connections survive 100 pauses; a paused sandbox has no runtime resources"
  )
  func manyCycles() async throws {
    let server = try await MartletServer.start()
    let empty = try await Census.take(server)
    let id = try await Workload.begin(server)
    var last = try await Workload.check(server, id)
    for cycle in 1...100 {
      try await server.pause(id)
      if cycle % 20 == 0 { try await empty.awaitSame(server, descriptorSlack: 32) }
      try await server.resume(id)
      let now = try await Workload.check(server, id)
      #expect(now.asked == last.asked + 1 && now.counter >= last.counter, "cycle \(cycle): \(last) \(now)")
      last = now
    }
    try await server.stop()
  }

  @Test(
    "a running sandbox can be snapshotted more often than the maximum chain length, and then paused"
  )
  func manySnapshots() async throws {
    let server = try await MartletServer.start()
    let id = try await server.createSandbox("--memory", "256")
    for round in 1...70 {
      _ = try await server.shell(id, "echo \(round) > /dev/shm/round; echo \(round) > /var/tmp/round")
      let body = #"{"sandbox_id":"\#(id)","name":"again"}"#
      let response = try await server.request(.POST, "/v1/snapshots?overwrite=true", body: body)
      guard response.status == 201 else { throw TestFailure("snapshot \(round): \(response.status) \(response.text)") }
    }
    let copy = try await server.createSandbox("--template", "again")
    try await server.pause(id)
    try await server.resume(id)
    for sandbox in [copy, id] {
      #expect(try await server.shell(sandbox, "cat /dev/shm/round /var/tmp/round") == "70\n70\n")
    }
    #expect(server.stored("generations").count < 64)
    try await server.stop()
  }

  @Test("a sandbox survives 20 pauses with kill -9 of the server in between, in either state")
  func killedBetween() async throws {
    let server = try await MartletServer.start()
    let id = try await Workload.begin(server)
    var last = try await Workload.check(server, id)
    for cycle in 1...20 {
      try await server.pause(id)
      if cycle % 2 == 0 {
        await server.killHard()
        try await server.launch()
      }
      try await server.resume(id)
      if cycle % 2 == 1 {
        await server.killHard()
        try await server.launch()
      }
      let now = try await Workload.check(server, id)
      #expect(now.asked == last.asked + 1 && now.counter >= last.counter, "cycle \(cycle)")
      last = now
    }
    try await server.stop()
  }

  @Test("a running command gets an error when its sandbox is paused, not at its time-out")
  func pausedUnderCommand() async throws {
    let server = try await MartletServer.start()
    let id = try await server.createSandbox()
    let body = #"{"cmd":"sleep","args":["300"],"timeout_sec":60}"#
    let command = Task { try await server.request(.POST, "/v1/sandboxes/\(id)/exec", body: body) }
    try await eventually("it runs") { try await server.shell(id, "cat /proc/[0-9]*/comm").contains("sleep\n") }
    try await server.pause(id)
    let response = try await command.value
    #expect(response.status == 502 && response.errorCode == "agent_error", "\(response.status) \(response.text)")
    try await server.resume(id)
    #expect(try await server.shell(id, "cat /proc/[0-9]*/comm").contains("sleep\n"), "the command itself goes on")
    try await server.stop()
  }

  @Test("forks of a running sandbox are independent")
  func fork() async throws {
    let server = try await MartletServer.start()
    let id = try await server.createSandbox()
    _ = try await server.shell(id, "echo parent > /tmp/who; echo parent > /var/tmp/who")
    let response = try await server.request(.POST, "/v1/sandboxes/\(id)/fork", body: #"{"count":4}"#)
    #expect(response.status == 201)
    let copies = try #require(JSONSerialization.jsonObject(with: response.body) as? [[String: Any]]).compactMap {
      $0["id"] as? String
    }
    #expect(copies.count == 4)
    for copy in copies {
      #expect(try await server.shell(copy, "cat /tmp/who /var/tmp/who") == "parent\nparent\n")
      _ = try await server.shell(copy, "echo \(copy) > /var/tmp/who")
    }
    for copy in copies { #expect(try await server.shell(copy, "cat /var/tmp/who") == "\(copy)\n") }
    #expect(try await server.shell(id, "cat /var/tmp/who") == "parent\n")
    try await server.stop()
  }

  @Test(
    "an idle sandbox is paused within its time-out + 3 s; pings and commands prevent it; the time-out persists"
  )
  func timeToLive() async throws {
    let server = try await MartletServer.start()
    let id = try await server.createSandbox("--timeout", "3")
    let work = Task { try await server.cli("exec", id, "--", "sleep", "7") }
    try await work.value.expectSuccess()
    #expect(try await server.info(id)["status"] as? String == "running")
    for _ in 0..<5 {
      try await server.cli("ping", id).expectSuccess()
      try await Task.sleep(for: .seconds(1))
    }
    #expect(try await server.info(id)["status"] as? String == "running")
    for _ in 0..<2 {
      try await eventually("it is paused", within: .seconds(20)) {
        try await server.info(id)["status"] as? String == "paused"
      }
      try await server.resume(id)
    }
    try await server.stop()
  }

  @Test("SIGTERM during an auto-pause leaves a snapshot that can be resumed")
  func terminatedWhilePausing() async throws {
    let server = try await MartletServer.start()
    let id = try await server.createSandbox("--timeout", "1")
    _ = try await server.shell(id, "echo kept > /dev/shm/kept")
    try await eventually("it is being paused", within: .seconds(20)) {
      try await server.info(id)["status"] as? String != "running"
    }
    #expect(await server.terminate() == .exited(0))
    try await server.launch()
    _ = try? await server.request(.POST, "/v1/sandboxes/\(id)/resume")
    #expect(try await server.shell(id, "cat /dev/shm/kept") == "kept\n")
    try await server.stop()
  }

  @Test("a paused sandbox with auto_resume runs a command like a running one")
  func automaticResume() async throws {
    let server = try await MartletServer.start()
    let id = try await server.createSandbox("--auto-resume")
    _ = try await server.shell(id, "echo kept > /dev/shm/kept")
    try await server.pause(id)
    #expect(try await server.shell(id, "cat /dev/shm/kept") == "kept\n")
    try await server.stop()
  }

  @Test("a killed pager is replaced while its VM runs, and no data is wrong")
  func pagerKilled() async throws {
    let server = try await MartletServer.start()
    let id = try await Workload.begin(server)
    try await server.pause(id)
    try await server.resume(id)
    for _ in 0..<3 {
      let pager = try #require(server.pagers.first)
      kill(pager, SIGKILL)
      _ = try await Workload.check(server, id)
      try await eventually("there is another pager") { server.pagers.contains { $0 != pager } }
    }
    try await server.stop()
  }

  @Test("a damaged page ends its sandbox with the reason before the guest reads it; other sandboxes continue")
  func damagedPage() async throws {
    let server = try await MartletServer.start()
    let id = try await Workload.begin(server)
    let other = try await server.createSandbox()
    try await server.pause(id)
    try flipBytes(of: server)
    let response = try await server.request(.POST, "/v1/sandboxes/\(id)/resume")
    if response.status == 200 {
      // Pages are read on demand, so make the guest read all memory.
      _ = try? await server.shell(id, "cat /dev/shm/memory > /dev/null")
      _ = try? await Workload.check(server, id)
      try await eventually("it ends") { try await server.info(id)["status"] as? String == "error" }
    } else {
      #expect(response.errorCode == "snapshot_damaged")
    }
    #expect(try await server.shell(other, "echo alive") == "alive\n")
    try await server.stop()
  }

  @Test("if the newest generation's header is damaged the resume fails, and the previous one can be resumed")
  func previousGeneration() async throws {
    let server = try await MartletServer.start()
    let id = try await server.createSandbox("--memory", "256")
    for content in ["old", "new"] {
      _ = try await server.shell(id, "echo \(content) > /dev/shm/kept; echo \(content) > /var/tmp/kept; sync")
      try await server.pause(id)
      if content == "old" { try await server.resume(id) }
    }
    try flipByte(40, of: try newest("memory.header", server))
    let refused = try await server.request(.POST, "/v1/sandboxes/\(id)/resume")
    #expect(refused.errorCode == "snapshot_damaged" && refused.text.contains("previous"), "\(refused.text)")
    #expect(try await server.status(id) == "paused")
    let resumed = try await server.request(.POST, "/v1/sandboxes/\(id)/resume", body: #"{"generation":"previous"}"#)
    #expect(resumed.status == 200, "\(resumed.text)")
    #expect(try await server.shell(id, "cat /dev/shm/kept /var/tmp/kept") == "old\nold\n")
    try await server.stop()
  }

  /// Flips a bit in every tenth page of the newest memory layer.
  private func flipBytes(of server: MartletServer) throws {
    let layer = try newest("memory.layer", server)
    var status = stat()
    stat(layer.string, &status)
    for offset in stride(from: 4_096 + 100, to: Int(status.st_size) - 8_192, by: 40_960) {
      try flipByte(offset, of: layer)
    }
  }

  private func flipByte(_ offset: Int, of path: FilePath) throws {
    chmod(path.string, 0o600)
    let file = try OwnedDescriptor.open(path.string, O_RDWR)
    var byte: UInt8 = 0
    #expect(pread(file.rawValue, &byte, 1, offset) == 1)
    byte ^= 4
    #expect(pwrite(file.rawValue, &byte, 1, offset) == 1)
  }

  /// Path of a file of the newest generation.
  private func newest(_ name: String, _ server: MartletServer) throws -> FilePath {
    let generations = server.directory.appending("data/snapshots/generations")
    let files = try Directories.names(in: generations).map { generations.appending($0).appending(name) }
    return try #require(try files.max { try modified($0) < modified($1) })
  }

  private func modified(_ path: FilePath) throws -> Int {
    var status = stat()
    stat(path.string, &status)
    return Int(status.st_mtim.tv_sec) * 1_000_000_000 + Int(status.st_mtim.tv_nsec)
  }
}
