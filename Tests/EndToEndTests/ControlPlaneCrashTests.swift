import Foundation
import LinuxSystem
import NIOCore
import Testing

/// Kills the server, as by `kill -9`, before and after every state that its control plane commits. Within ten seconds
/// of the next start the rows must match the host.
@Suite(.serialized) struct ControlPlaneCrashTests {
  private static let repair: Duration = .seconds(10)
  /// States that a row may have when no operation is in progress.
  private static let settled = ["running", "paused", "stopped", "error"]

  /// `through` is committed before the host call, `to` after its response.
  private static func points(through: [String], to: String) -> [String] {
    through.map { "\($0)-after" } + ["\(to)-before", "\(to)-after"]
  }

  @Test("create: the sandbox runs, or is in error and holds no resources")
  func creating() async throws {
    let stage = try await CrashStage.make()
    let server = stage.server
    try await stage.walk(Self.points(through: ["row-created", "row-starting"], to: "row-running")) {
      _ = try await $0.request(.POST, "/v1/sandboxes", body: #"{"memory_mb":256}"#, deadline: .seconds(60))
    } check: { point in
      try await expectTruth(stage, point, running: 1...2)
      try await discardOthers(stage)
      try await stage.running.awaitSame(server, descriptorSlack: 64)
    }
    try await stage.finish()
  }

  @Test("pause and resume: the row matches the host, and the sandbox's state is intact")
  func pausing() async throws {
    let stage = try await CrashStage.make()
    let (server, id) = (stage.server, stage.id)
    try await stage.walk(Self.points(through: ["row-pausing"], to: "row-paused")) {
      _ = try await $0.request(.POST, "/v1/sandboxes/\(id)/pause", deadline: .seconds(60))
    } check: { point in
      try await expectTruth(stage, point, running: 0...1)
      if try await server.status(id) == "paused" { try await server.resume(id) }
      try await stage.expectContent(of: id)
    }
    try await server.pause(id)
    try await stage.walk(Self.points(through: ["row-resuming"], to: "row-running")) {
      _ = try await $0.request(.POST, "/v1/sandboxes/\(id)/resume", deadline: .seconds(60))
    } check: { point in
      try await expectTruth(stage, point, running: 0...1)
      if try await server.status(id) == "paused" { try await server.resume(id) }
      try await stage.expectContent(of: id)
      try await server.pause(id)
    }
    try await stage.finish()
  }

  @Test("snapshot and delete: the snapshot is complete or absent, and its name can be used again")
  func snapshotting() async throws {
    let stage = try await CrashStage.make()
    let (server, id) = (stage.server, stage.id)
    let body = #"{"sandbox_id":"\#(id)","name":"cut"}"#
    try await stage.walk(Self.points(through: ["snapshot-created"], to: "snapshot-ready")) {
      _ = try await $0.request(.POST, "/v1/snapshots", body: body, deadline: .seconds(60))
    } check: { point in
      try await expectTruth(stage, point, running: 1...1)
      // A snapshot that was not published is complete or absent, and does not block its name.
      try await eventually("the name can be had or is had", within: Self.repair) {
        let response = try await server.request(.POST, "/v1/snapshots", body: body, deadline: .seconds(60))
        let names = try await server.snapshots()
        return [201, 409].contains(response.status) && names == ["cut"]
      }
      try await stage.expectContent(of: try await server.createSandbox("--template", "cut"))
      try await discardOthers(stage)
      try await server.cli("snapshot", "rm", "cut").expectSuccess()
    }
    try await stage.walk(Self.points(through: ["snapshot-deleting"], to: "snapshot-deleted")) {
      _ = try await $0.request(.POST, "/v1/snapshots", body: body, deadline: .seconds(60))
      _ = try await $0.request(.DELETE, "/v1/snapshots/cut", deadline: .seconds(60))
    } check: { point in
      try await expectTruth(stage, point, running: 1...1)
      try await eventually("\(point): the snapshot is gone", within: Self.repair) {
        try await server.snapshots().isEmpty
      }
    }
    try await stage.finish()
  }

  @Test("destroy: it is completed after the next start")
  func destroying() async throws {
    let stage = try await CrashStage.make()
    let server = stage.server
    for point in Self.points(through: ["row-destroying"], to: "row-stopped") {
      let copy = try await server.createSandbox("--memory", "256")
      try await stage.die(at: point) {
        _ = try await $0.request(.DELETE, "/v1/sandboxes/\(copy)", deadline: .seconds(60))
      }
      try await server.launch()
      try await eventually("\(point): the sandbox is stopped", within: Self.repair) {
        try await server.status(copy) == "stopped"
      }
      try await expectTruth(stage, point, running: 1...1)
      try await stage.running.awaitSame(server, descriptorSlack: 64)
    }
    try await stage.finish()
  }

  /// Waits until every row is in a final state and the number of running rows equals the number of microVMs.
  private func expectTruth(_ stage: CrashStage, _ point: String, running: ClosedRange<Int>) async throws {
    let server = stage.server
    try await eventually("\(point): the rows tell the truth", within: Self.repair) {
      let statuses = try await server.statuses()
      let count = statuses.count { $0 == "running" }
      return statuses.allSatisfy(Self.settled.contains) && count == server.machines.count && running.contains(count)
    }
  }

  private func discardOthers(_ stage: CrashStage) async throws {
    let others = try await stage.server.sandboxes("running,error").filter { $0 != stage.id }
    if !others.isEmpty { try await stage.server.cli(["kill"] + others).expectSuccess() }
  }
}

extension MartletServer {
  fileprivate func statuses() async throws -> [String] {
    struct Sandbox: Decodable { let status: String }
    return try JSONDecoder().decode([Sandbox].self, from: try await request(.GET, "/v1/sandboxes?limit=100").body).map(
      \.status)
  }
}
