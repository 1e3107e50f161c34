import Foundation
import LinuxSystem
import NIOCore
import Testing

/// Kills the server, as by `kill -9`, at every step of its operations on memory. Afterwards a sandbox that was running
/// still runs with its VMM and pager, a paused one is paused, and exactly the committed generations exist.
@Suite(.serialized) struct CrashPointTests {
  @Test("a crash at any step of a pause leaves the sandbox running or paused and intact")
  func pausing() async throws {
    let stage = try await CrashStage.make()
    let (server, id) = (stage.server, stage.id)
    try await stage.walk(CrashSteps.pausing) {
      _ = try await $0.request(.POST, "/v1/sandboxes/\(id)/pause", deadline: .seconds(60))
    } check: {
      point in
      let status = try await server.settled(id)
      #expect(["running", "paused"].contains(status), "\(point)")
      if status == "paused" { try await server.resume(id) }
      try await stage.expectContent(of: id)
      try await stage.expectTidy()
      try await stage.running.awaitSame(server, descriptorSlack: 64)
    }
    try await stage.finish()
  }

  @Test("a crash at any step of a resume leaves the sandbox paused or running and intact")
  func resuming() async throws {
    let stage = try await CrashStage.make()
    let (server, id) = (stage.server, stage.id)
    try await server.pause(id)
    try await stage.walk(CrashSteps.resuming) {
      _ = try await $0.request(.POST, "/v1/sandboxes/\(id)/resume", deadline: .seconds(60))
    } check: {
      point in
      let status = try await server.settled(id)
      #expect(["running", "paused"].contains(status), "\(point)")
      if status == "paused" {
        try await stage.empty.awaitSame(server, descriptorSlack: 64)
        try await server.resume(id)
      }
      try await stage.expectContent(of: id)
      try await stage.running.awaitSame(server, descriptorSlack: 64)
      try await server.pause(id)
    }
    try await stage.finish()
  }

  @Test("a crash at any step of a snapshot leaves the sandbox running, and the snapshot complete or absent")
  func snapshotting() async throws {
    let stage = try await CrashStage.make()
    let (server, id) = (stage.server, stage.id)
    let (machines, pagers) = (server.machines, server.pagers)
    try await stage.walk(CrashSteps.continuing) {
      try await $0.snapshot(id)
    } check: { point in
      try await stage.expectAdopted(machines, pagers, point)
      try await expectSnapshot(stage, exists: point == Self.named)
      try await stage.running.awaitSame(server, descriptorSlack: 64)
    }
    // A further snapshot without a crash succeeds.
    try await server.snapshot(id)
    try await expectSnapshot(stage, exists: true)
    try await stage.finish()
  }

  private static let named = "saving-commit-after"

  @Test("a crash while a paused sandbox's snapshot is named leaves it paused, and the name present or absent")
  func snapshottingPaused() async throws {
    let stage = try await CrashStage.make()
    let (server, id) = (stage.server, stage.id)
    try await server.pause(id)
    let generations = server.stored("generations")
    try await stage.walk(CrashSteps.around("saving", ["commit"])) {
      try await $0.snapshot(id)
    } check: { point in
      #expect(try await server.settled(id) == "paused", "\(point)")
      try await expectSnapshot(stage, exists: point == Self.named)
      #expect(server.stored("generations") == generations)
      try await stage.empty.awaitSame(server, descriptorSlack: 64)
    }
    try await server.resume(id)
    try await stage.expectContent(of: id)
    try await stage.finish()
  }

  /// Checks that an existing snapshot is complete by creating a sandbox from it, and deletes it.
  private func expectSnapshot(_ stage: CrashStage, exists: Bool) async throws {
    let server = stage.server
    try await stage.expectTidy()
    try await eventually("the list of snapshots tells the truth") {
      try await server.snapshots() == (exists ? ["cut"] : [])
    }
    guard exists else { return }
    let copy = try await server.createSandbox("--template", "cut")
    try await stage.expectContent(of: copy)
    try await server.cli("kill", copy).expectSuccess()
    try await server.cli("snapshot", "rm", "cut").expectSuccess()
  }

  @Test("a crash at any step of a fork leaves the source running, and copies complete or absent")
  func forking() async throws {
    let stage = try await CrashStage.make()
    let (server, id) = (stage.server, stage.id)
    let (machines, pagers) = (server.machines, server.pagers)
    try await stage.walk(CrashSteps.forking) {
      _ = try await $0.request(.POST, "/v1/sandboxes/\(id)/fork", body: #"{"count":1}"#, deadline: .seconds(60))
    } check: { point in
      try await eventually("no copy is half made") { try await server.sandboxes("pending,starting").isEmpty }
      let copies = try await server.sandboxes("running").filter { $0 != id }
      for copy in copies { try await stage.expectContent(of: copy) }
      let failed = try await server.sandboxes("error")
      if !(copies + failed).isEmpty { try await server.cli(["kill"] + copies + failed).expectSuccess() }
      try await stage.expectAdopted(machines, pagers, point)
      try await stage.running.awaitSame(server, descriptorSlack: 64)
      try await stage.expectTidy()
    }
    try await stage.finish()
  }

  @Test("a crash at any step of a compaction leaves the sandbox with the old chain or the compacted one")
  func compacting() async throws {
    let stage = try await CrashStage.make()
    let (server, id) = (stage.server, stage.id)
    for _ in 0..<CrashSteps.longestChain {
      try await server.pause(id)
      try await server.resume(id)
    }
    try await stage.walk(CrashSteps.compacting) { server in
      try await server.pause(id)
      // Compaction runs periodically. Lengthen the chain until it is long enough.
      try await eventually("the server dies", within: .seconds(8)) { server.hasEnded }
    } check: { point in
      #expect(try await server.settled(id) == "paused", "\(point)")
      try await stage.expectTidy()
      try await server.resume(id)
      try await stage.expectContent(of: id)
    }
    // The compacted chain stays short, and the merged generations are collected.
    for _ in 0..<2 {
      try await server.pause(id)
      try await server.resume(id)
    }
    try await eventually("the chain is short") { server.stored("generations").count <= 6 }
    try await stage.expectContent(of: id)
    try await stage.finish()
  }

  @Test(
    "a crash at any step of a forced compaction leaves the running sandbox with its layers, and it can be saved"
  )
  func compactingWhileRunning() async throws {
    let stage = try await CrashStage.make()
    let (server, id) = (stage.server, stage.id)
    let (machines, pagers) = (server.machines, server.pagers)
    for _ in 0..<CrashSteps.longestGrowingChain { try await server.snapshot(id, overwriting: true) }
    let longest = server.stored("generations").count
    try await stage.walk(CrashSteps.compactingWhileRunning) {
      try await $0.snapshot(id, overwriting: true)
    } check: { point in
      try await stage.expectAdopted(machines, pagers, point)
      try await eventually("the snapshot is there") { try await server.snapshots() == ["cut"] }
      try await stage.expectTidy()
      try await stage.running.awaitSame(server, descriptorSlack: 64)
    }
    try await server.snapshot(id, overwriting: true)
    try await expectSnapshot(stage, exists: true)
    try await server.pause(id)
    try await server.resume(id)
    try await stage.expectContent(of: id)
    try await eventually("the chain is short") { server.stored("generations").count < longest / 2 }
    try await stage.finish()
  }

  @Test("after a crash during a collection the next start removes exactly the garbage")
  func collecting() async throws {
    let stage = try await CrashStage.make()
    let (server, id) = (stage.server, stage.id)
    let (machines, pagers) = (server.machines, server.pagers)
    for moment in ["garbageRenamed", "garbageRemoved"] {
      let copy = try await server.forkOnce(id)
      try await server.pause(copy)
      let generations = server.stored("generations")
      // The copy's memory is garbage now. The collection at the start runs first.
      try await stage.die(at: "store-garbageRemoved,store-\(moment)") {
        _ = try await $0.request(.DELETE, "/v1/sandboxes/\(copy)")
      }
      #expect(server.stored("generations").count < generations.count)
      #expect(server.stored("trash").isEmpty == (moment == "garbageRemoved"))
      try await server.launch()
      try await stage.expectAdopted(machines, pagers, moment)
      try await stage.expectTidy()
      // Also during the collection at the start, which removes the draft of an interrupted pause.
      try await stage.die(at: "saving-devices-after") { _ = try await $0.request(.POST, "/v1/sandboxes/\(id)/pause") }
      #expect(server.stored("drafts").count == 1)
      try await stage.dieStarting(at: "store-\(moment)")
      #expect(server.stored("drafts").isEmpty)
      #expect(server.stored("trash").isEmpty == (moment == "garbageRemoved"))
      try await server.launch()
      try await stage.expectAdopted(machines, pagers, moment)
      try await stage.expectTidy()
    }
    try await stage.finish()
  }
}

extension MartletServer {
  fileprivate func snapshot(_ id: String, overwriting: Bool = false) async throws {
    let body = #"{"sandbox_id":"\#(id)","name":"cut"}"#
    let response = try await request(
      .POST, "/v1/snapshots\(overwriting ? "?overwrite=true" : "")", body: body, deadline: .seconds(60))
    guard response.status == 201 else { throw TestFailure("snapshot: \(response.status) \(response.text)") }
  }

  fileprivate func forkOnce(_ id: String) async throws -> String {
    let response = try await request(.POST, "/v1/sandboxes/\(id)/fork", body: #"{"count":1}"#)
    struct Sandbox: Decodable { let id: String }
    return try #require(JSONDecoder().decode([Sandbox].self, from: response.body).first).id
  }
}
