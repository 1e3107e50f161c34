import Foundation
import LinuxSystem
import NIOCore
import Testing

/// The server dies, as by `kill -9`, at every step of what it does with memory. Afterwards a sandbox that ran runs,
/// with the VMM and the pager that it had; one that was paused is paused; what was committed is there, and nothing
/// else.
@Suite(.serialized) struct CrashPointTests {
  @Test("at any step of a pause: the sandbox runs or is paused, and is what it was")
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

  @Test("at any step of a resume: the sandbox is paused or runs, and is what it was")
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

  @Test("at any step of a named snapshot of a running sandbox: it runs on, and the snapshot is whole or not there")
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
    // One more, to its end: nothing is in its way.
    try await server.snapshot(id)
    try await expectSnapshot(stage, exists: true)
    try await stage.finish()
  }

  private static let named = "saving-commit-after"

  @Test("at the naming of a paused sandbox's snapshot: it stays paused, and the name is there or not")
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

  /// A snapshot that is there is whole: a sandbox is made from it. Afterwards it is deleted.
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

  @Test("at any step of a fork: the source runs on, and copies are whole or not there")
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

  @Test("at any step of a compaction: the sandbox has the chain that it had, or the short one")
  func compacting() async throws {
    let stage = try await CrashStage.make()
    let (server, id) = (stage.server, stage.id)
    for _ in 0..<CrashSteps.longestChain {
      try await server.pause(id)
      try await server.resume(id)
    }
    try await stage.walk(CrashSteps.compacting) { server in
      try await server.pause(id)
      // It is looked after in rounds. A chain that is not long enough yet becomes longer.
      try await eventually("the server dies", within: .seconds(8)) { server.hasEnded }
    } check: { point in
      #expect(try await server.settled(id) == "paused", "\(point)")
      try await stage.expectTidy()
      try await server.resume(id)
      try await stage.expectContent(of: id)
    }
    // What compaction made short stays short, and what it merged is collected.
    for _ in 0..<2 {
      try await server.pause(id)
      try await server.resume(id)
    }
    try await eventually("the chain is short") { server.stored("generations").count <= 6 }
    try await stage.expectContent(of: id)
    try await stage.finish()
  }

  @Test(
    "at any step of a compaction that a running sandbox's long chain forces: it runs on over the layers it has, and can be saved"
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

  @Test("in the middle of a collection: what was garbage goes with the next start, nothing else does")
  func collecting() async throws {
    let stage = try await CrashStage.make()
    let (server, id) = (stage.server, stage.id)
    let (machines, pagers) = (server.machines, server.pagers)
    for moment in ["garbageRenamed", "garbageRemoved"] {
      let copy = try await server.forkOnce(id)
      try await server.pause(copy)
      let generations = server.stored("generations")
      // The copy's memory is garbage now. The collection of the start passes first.
      try await stage.die(at: "store-garbageRemoved,store-\(moment)") {
        _ = try await $0.request(.DELETE, "/v1/sandboxes/\(copy)")
      }
      #expect(server.stored("generations").count < generations.count)
      #expect(server.stored("trash").isEmpty == (moment == "garbageRemoved"))
      try await server.launch()
      try await stage.expectAdopted(machines, pagers, moment)
      try await stage.expectTidy()
      // And in the collection of the start, which takes away the draft of a pause that was cut short.
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
    let answer = try await request(
      .POST, "/v1/snapshots\(overwriting ? "?overwrite=true" : "")", body: body, deadline: .seconds(60))
    guard answer.status == 201 else { throw TestFailure("snapshot: \(answer.status) \(answer.text)") }
  }

  fileprivate func forkOnce(_ id: String) async throws -> String {
    let answer = try await request(.POST, "/v1/sandboxes/\(id)/fork", body: #"{"count":1}"#)
    struct Sandbox: Decodable { let id: String }
    return try #require(JSONDecoder().decode([Sandbox].self, from: answer.body).first).id
  }
}
