import Foundation
import Glibc
import HostAPI
import LinuxSystem
import Model
import Snapshots
import SystemPackage
import Testing

@testable import HostAgent

@Suite struct QuarantineTests {
  private func maintain(_ agent: HostAgent, until condition: () async throws -> Bool) async throws {
    for _ in 0..<400 {
      await agent.maintain()
      if try await condition() { return }
      try await Task.sleep(for: .milliseconds(5))
    }
    Issue.record("the condition did not become true")
  }

  private func state(_ agent: HostAgent, _ id: SandboxID) async throws -> SandboxStatus {
    try await agent.sandbox(id).status
  }

  @Test("a running sandbox in quarantine is paused, is in no list, is not collected, and goes on when it is released")
  func roundTrip() async throws {
    let world = try HostFixture()
    var agent = try await world.agent()
    let spec = SandboxSpec(teamID: TeamID(), metadata: ["a": "b"])
    _ = try await agent.createSandbox(spec)
    try await agent.quarantineSandbox(spec.id)
    try await agent.quarantineSandbox(spec.id)
    #expect(try await agent.listSandboxes().isEmpty)
    try await maintain(agent) { try await state(agent, spec.id) == .paused }
    // The microVM is removed after the commit.
    await agent.drain()
    #expect(world.isEmpty)
    await agent.collect()
    // It stays so across a restart.
    agent = try await world.agent()
    #expect(try await agent.listSandboxes().isEmpty)
    let item = try #require(try await agent.quarantine().items.first)
    guard case .sandbox(let found, let report) = item.kind else { return #expect(Bool(false)) }
    #expect(found == spec && report.status == .paused && item.sizeBytes > 0)
    let refused = await #expect(throws: MartletError.self) {
      try await agent.resumeSandbox(spec.id, ResumeOptions())
    }
    #expect(refused?.code == .invalidState)
    let other = TeamID()
    _ = try await agent.releaseSandbox(spec.id, to: other)
    _ = try await agent.releaseSandbox(spec.id, to: other)
    #expect(try await agent.quarantine().items.isEmpty)
    #expect(try await agent.listSandboxes().map(\.id) == [spec.id])
    #expect(try await agent.resumeSandbox(spec.id, ResumeOptions()).status == .running)
    try await agent.destroySandbox(spec.id)
    #expect(world.isEmpty)
  }

  @Test("a sandbox whose pause fails runs on in quarantine, and is paused when it can be")
  func pauseFails() async throws {
    let world = try HostFixture()
    let fails = Flag()
    fails.set(true)
    let agent = try await world.agent(
      observer: StepObserver { if $0 == .beforeSaving(.memory), fails.isOn { throw Injected() } })
    let spec = SandboxSpec(teamID: TeamID())
    _ = try await agent.createSandbox(spec)
    try await agent.quarantineSandbox(spec.id)
    for _ in 0..<5 { await agent.maintain() }
    await agent.drain()
    #expect(try await state(agent, spec.id) == .running)
    #expect(try await agent.quarantine().items.count == 1)
    fails.set(false)
    let next = try await world.agent()
    try await maintain(next) { try await state(next, spec.id) == .paused }
  }

  @Test(
    "an agent that dies while a sandbox comes into quarantine, or leaves it, loses nothing",
    arguments: [StepObserver.Moment.beforeSaving(.commit), .afterSaving(.commit)])
  func crash(moment: StepObserver.Moment) async throws {
    for releases in [false, true] {
      let world = try HostFixture()
      let spec = SandboxSpec(teamID: TeamID())
      let first = try await world.agent()
      _ = try await first.createSandbox(spec)
      _ = try await first.pauseSandbox(spec.id)
      if releases { try await first.quarantineSandbox(spec.id) }
      let dying = try await world.agent(observer: StepObserver { if $0 == moment { throw Injected() } })
      if releases {
        _ = try? await dying.releaseSandbox(spec.id, to: spec.teamID)
      } else {
        try? await dying.quarantineSandbox(spec.id)
      }
      let next = try await world.agent()
      let isQuarantined = try await !next.quarantine().items.isEmpty
      // What was written counts.
      #expect(isQuarantined == (releases == (moment == .beforeSaving(.commit))), "\(moment), \(releases)")
      _ = try await next.releaseSandbox(spec.id, to: spec.teamID)
      #expect(try await next.resumeSandbox(spec.id, ResumeOptions()).status == .running)
    }
  }

  @Test("a named snapshot in quarantine frees its name, is not collected, and comes back under the same or another")
  func snapshots() async throws {
    let world = try HostFixture()
    var agent = try await world.agent()
    let spec = SandboxSpec(teamID: TeamID())
    _ = try await agent.createSandbox(spec)
    let (name, team) = (try SafeName("golden"), spec.teamID)
    let request = SnapshotRequest(sandboxID: spec.id, name: name, teamID: team)
    let first = try await agent.createSnapshot(request)
    try await agent.quarantineSnapshot(name, team: team, createdAt: first.createdAt.addingTimeInterval(-1))
    #expect(try await agent.quarantine().items.isEmpty)
    try await agent.quarantineSnapshot(name, team: team, createdAt: first.createdAt)
    #expect(try await agent.listTemplates(.snapshot).isEmpty)
    let second = try await agent.createSnapshot(request)
    try await agent.deleteSnapshot(name, team: team, createdAt: first.createdAt)
    #expect(try await agent.listTemplates(.snapshot).map(\.createdAt) == [second.createdAt])
    await agent.collect()
    agent = try await world.agent()
    let item = try #require(try await agent.quarantine().items.first)
    guard case .snapshot(let id, let template) = item.kind else { return #expect(Bool(false)) }
    #expect(template.name == name && template.teamID == team)
    let clash = await #expect(throws: MartletError.self) {
      try await agent.releaseSnapshot(id, as: name, team: team)
    }
    #expect(clash?.code == .alreadyExists)
    let other = try SafeName("golden-old")
    _ = try await agent.releaseSnapshot(id, as: other, team: team)
    #expect(try await agent.listTemplates(.snapshot).map(\.name) == [name, other])
    await agent.collect()
    let copy = SandboxSpec(teamID: team, template: other)
    #expect(try await agent.createSandbox(copy).status == .running)
  }

  @Test("a snapshot in quarantine that is removed is collected")
  func removal() async throws {
    let world = try HostFixture()
    let agent = try await world.agent()
    let spec = SandboxSpec(teamID: TeamID())
    _ = try await agent.createSandbox(spec)
    let name = try SafeName("golden")
    let made = try await agent.createSnapshot(SnapshotRequest(sandboxID: spec.id, name: name, teamID: spec.teamID))
    try await agent.quarantineSnapshot(name, team: spec.teamID, createdAt: made.createdAt)
    guard case .snapshot(let id, _)? = try await agent.quarantine().items.first?.kind else {
      return #expect(Bool(false))
    }
    try await agent.removeQuarantinedSnapshot(id)
    try await agent.removeQuarantinedSnapshot(id)
    #expect(try await agent.quarantine().items.isEmpty)
    try await agent.destroySandbox(spec.id)
    await agent.collect()
    #expect(try world.store.identifiers().allSatisfy { $0 != id })
  }

  @Test("a data directory is locked for one server, whatever the path, and the message names the holder")
  func directoryLock() throws {
    let world = try HostFixture()
    let link = world.directory.appending("link")
    #expect(symlink(world.directory.string, link.string) == 0)
    let lock = try DataDirectoryLock.take(world.directory)
    for path in [world.directory, link] {
      let error = #expect(throws: MartletError.self) { try DataDirectoryLock.take(path) }
      #expect(error?.message.contains("process \(getpid())") == true)
    }
    withExtendedLifetime(lock) {}
  }
}
