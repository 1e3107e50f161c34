import HostAPI
import Model
import Snapshots
import Testing

@testable import HostAgent

/// A small generator, so that a failing order can be repeated by its seed.
private struct Seeded: RandomNumberGenerator {
  var state: UInt64

  mutating func next() -> UInt64 {
    // SplitMix64. Source: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014.
    state &+= 0x9E37_79B9_7F4A_7C15
    var word = state
    word = (word ^ (word >> 30)) &* 0xBF58_476D_1CE4_E5B9
    word = (word ^ (word >> 27)) &* 0x94D0_49BB_1331_11EB
    return word ^ (word >> 31)
  }
}

@Suite struct InterleavingTests {
  private enum Operation: CaseIterable { case pause, autoPause, resume, snapshot, work, destroy }

  @Test(
    "pause, auto-pause, resume, snapshot, work and destroy in any order lose no count and release nothing twice",
    arguments: 0..<40)
  func anyOrder(seed: Int) async throws {
    var random = Seeded(state: UInt64(seed))
    let host = try HostFixture()
    // Every step is a point at which other operations can run.
    let agent = try await host.agent(observer: StepObserver { _ in await Task.yield() })
    for round in 0..<25 {
      let spec = SandboxSpec(teamID: TeamID(), timeoutSeconds: 1)
      _ = try await agent.createSandbox(spec)
      let name = try SafeName("s\(round)")
      var operations = (0..<6).map { _ in Operation.allCases.randomElement(using: &random) ?? .pause }
      operations.removeAll { $0 == .destroy }
      let ends = Bool.random(using: &random)
      let counted = await race(operations + (ends ? [.destroy] : []), on: spec, name, agent)
      if ends {
        #expect(try await agent.listSandboxes().isEmpty)
      } else {
        try await expectAlive(spec.id, counted, agent, host)
        try await agent.destroySandbox(spec.id)
      }
      try await agent.deleteSnapshot(name, team: spec.teamID)
      #expect(host.isEmpty, "\(host.now) \(host.instanceDirectories)")
    }
    await agent.collect()
    #expect(try host.store.generations().count == 1)
  }

  /// - Returns: the number of times the guest counted.
  private func race(_ operations: [Operation], on spec: SandboxSpec, _ name: SafeName, _ agent: HostAgent) async -> Int
  {
    let id = spec.id
    return await withTaskGroup(of: Int.self) { group in
      for operation in operations {
        group.addTask {
          do {
            switch operation {
            case .pause: _ = try await agent.pauseSandbox(id)
            case .autoPause: await agent.existingController(id)?.pauseIfIdle()
            case .resume: _ = try await agent.resumeSandbox(id, ResumeOptions(timeoutSeconds: 1))
            case .snapshot:
              _ = try await agent.createSnapshot(
                SnapshotRequest(sandboxID: spec.id, name: name, teamID: spec.teamID, overwrites: true))
            case .destroy: try await agent.destroySandbox(id)
            case .work:
              _ = try await agent.listProcesses(in: id)
              return 1
            }
          } catch {
            // Refused: another operation was first.
          }
          return 0
        }
      }
      return await group.reduce(0, +)
    }
  }

  private func expectAlive(_ id: SandboxID, _ counted: Int, _ agent: HostAgent, _ host: HostFixture) async throws {
    let status = try await agent.sandbox(id).status
    #expect(status == .running || status == .paused)
    #expect(host.now.machines.count == (status == .running ? 1 : 0))
    _ = try await agent.resumeSandbox(id, ResumeOptions())
    _ = try await agent.listProcesses(in: id)
    #expect(host.allMachines.first?.counter == counted + 1)
  }
}

@Suite struct ActivityTests {
  @Test("a sandbox expires neither without a time-out nor while work is open")
  func openWork() async throws {
    #expect(!ActivityMeter(timeoutSeconds: 0).isExpired)
    let meter = ActivityMeter(timeoutSeconds: 1)
    meter.touch()
    let work = meter.begin()
    try await Task.sleep(for: .milliseconds(1_100))
    #expect(!meter.isExpired, "a second has passed, but work is open")
    work.end()
    work.end()
    #expect(!meter.isExpired, "the end of work is a sign too")
    try await eventually { meter.isExpired }
    meter.touch()
    #expect(!meter.isExpired)
  }

  @Test(
    "calls to a guest end at once when it ends, also calls that begin later; a new guest is called again")
  func interrupted() async throws {
    let meter = ActivityMeter(timeoutSeconds: 0)
    let (open, later) = (meter.begin(), meter.begin())
    let (questions, question) = AsyncStream.makeStream(of: Void.self)
    let response = Task {
      try await open.untilInterrupted {
        question.yield()
        // Like a guest that has ended: returns late and ignores cancellation.
        await Task { try? await Task.sleep(for: .seconds(3_600)) }.value
      }
    }
    for await _ in questions.prefix(1) {}
    meter.interrupt()
    let error = await #expect(throws: MartletError.self) { try await response.value }
    #expect(error?.code == .agentError)
    await #expect(throws: MartletError.self) {
      try await later.untilInterrupted { await Task { try? await Task.sleep(for: .seconds(3_600)) }.value }
    }
    #expect(try await meter.begin().untilInterrupted { 5 } == 5)
  }

  @Test("work that is not ended explicitly ends when it is released")
  func released() {
    let meter = ActivityMeter(timeoutSeconds: 0)
    do { _ = meter.begin() }
    let first = meter.lastActiveAt
    #expect(first != nil && meter.lastActiveAt == first, "with open work it would be now, each time")
  }

  @Test("an idle sandbox is paused by the reaper, reports it, and keeps its time-out")
  func reaper() async throws {
    let host = try HostFixture()
    let agent = try await host.agent()
    let spec = SandboxSpec(teamID: TeamID(), timeoutSeconds: 1)
    _ = try await agent.createSandbox(spec)
    for _ in 0..<2 {
      try await eventually {
        await agent.maintain()
        return try await agent.sandbox(spec.id).status == .paused
      }
      #expect(try await agent.sandbox(spec.id).isAutoPaused)
      _ = try await agent.resumeSandbox(spec.id, ResumeOptions(timeoutSeconds: 1))
      #expect(try await !agent.sandbox(spec.id).isAutoPaused)
    }
    try await agent.destroySandbox(spec.id)
  }
}
