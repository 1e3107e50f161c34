import Concurrency
import HostAPI
import Model
import Testing

@testable import HostAgent

private let makingSteps: [HostStep] = [.journal, .directory, .disk, .network, .cgroup, .vmm, .guest, .commit]
private let removingSteps: [HostStep] = [.vmm, .pager, .cgroup, .network, .disk, .directory, .journal]

private func spec() -> SandboxSpec { SandboxSpec(teamID: TeamID()) }

@Suite struct CreationTests {
  @Test("a created sandbox runs, and destroying it leaves nothing")
  func roundTrip() async throws {
    let world = try SimulatedWorld()
    let agent = try await world.agent()
    let spec = spec()
    let report = try await agent.createSandbox(spec)
    #expect(report.status == .running)
    #expect(report.isolation?.vmm == "simulated")
    #expect(world.now.machines.count == 1)
    try await agent.destroySandbox(spec.id)
    #expect(world.isEmpty)
    #expect(try await world.journalIsEmpty)
    #expect(try await agent.listSandboxes().isEmpty)
  }

  @Test("a failure at any step undoes all earlier ones", arguments: makingSteps)
  func rollback(step: HostStep) async throws {
    for moment in [StepObserver.Moment.beforeMaking(step), .afterMaking(step)] {
      let world = try SimulatedWorld()
      let agent = try await world.agent(observer: failing(at: moment))
      await #expect(throws: MartletError.self) { try await agent.createSandbox(spec()) }
      #expect(world.isEmpty, "\(moment): \(world.now) \(world.instanceDirectories)")
      #expect(try await world.journalIsEmpty)
      #expect(try await agent.listSandboxes().isEmpty)
      #expect(try await agent.createSandbox(spec()).status == .running, "the slot is free again")
    }
  }

  @Test("an id is created once")
  func duplicate() async throws {
    let world = try SimulatedWorld()
    let agent = try await world.agent()
    let spec = spec()
    _ = try await agent.createSandbox(spec)
    let error = await #expect(throws: MartletError.self) { try await agent.createSandbox(spec) }
    #expect(error?.code == .alreadyExists)
  }

  @Test("an unknown template is the tenant's mistake and costs nothing")
  func unknownTemplate() async throws {
    let world = try SimulatedWorld()
    let agent = try await world.agent()
    var spec = spec()
    spec.template = try SafeName("nothing")
    let error = await #expect(throws: MartletError.self) { try await agent.createSandbox(spec) }
    #expect(error?.code == .notFound)
    #expect(world.isEmpty)
  }

  @Test("a full host says so, and has room again after a destroy (NET-4)")
  func capacity() async throws {
    let world = try SimulatedWorld()
    let agent = try await world.agent()
    var ids: [SandboxID] = []
    for _ in 0..<8 { ids.append(try await agent.createSandbox(spec()).id) }
    let error = await #expect(throws: MartletError.self) { try await agent.createSandbox(spec()) }
    #expect(error?.code == .hostUnavailable)
    try await agent.destroySandbox(ids[3])
    _ = try await agent.createSandbox(spec())
    #expect(world.now.networks.count == 8)
  }

  @Test("a caller that goes away does not stop a creation (L-7)")
  func detachedCaller() async throws {
    let world = try SimulatedWorld()
    world.guestsAnswer.withLock { $0 = false }
    let agent = try await world.agent()
    let spec = spec()
    let caller = Task { try await agent.createSandbox(spec) }
    try await eventually { world.now.machines.count == 1 }
    caller.cancel()
    world.guestsAnswer.withLock { $0 = true }
    try await eventually { try await agent.sandbox(spec.id).status == .running }
  }

  @Test("a VMM that ends while booting is the reason of the failure")
  func endsWhileBooting() async throws {
    let world = try SimulatedWorld()
    world.guestsAnswer.withLock { $0 = false }
    let agent = try await world.agent()
    let spec = spec()
    let creation = Task { try await agent.createSandbox(spec) }
    try await eventually { world.now.machines.count == 1 }
    world.allMachines.first?.end("the guest's kernel panicked")
    let error = await #expect(throws: MartletError.self) { try await creation.value }
    #expect(error?.message.contains("kernel panicked") == true)
    #expect(world.isEmpty)
  }
}

@Suite struct DestructionTests {
  @Test("destroy wins over a creation that is under way")
  func duringCreation() async throws {
    let world = try SimulatedWorld()
    world.guestsAnswer.withLock { $0 = false }
    let agent = try await world.agent()
    let spec = spec()
    let creation = Task { try await agent.createSandbox(spec) }
    try await eventually { world.now.machines.count == 1 }
    try await agent.destroySandbox(spec.id)
    let error = await #expect(throws: MartletError.self) { try await creation.value }
    #expect(error?.code == .canceled)
    #expect(world.isEmpty)
    #expect(try await world.journalIsEmpty)
  }

  @Test("destroying twice at once, and again, and an unknown one, is fine (L-6)")
  func idempotent() async throws {
    let world = try SimulatedWorld()
    let agent = try await world.agent()
    let spec = spec()
    _ = try await agent.createSandbox(spec)
    async let first: Void = agent.destroySandbox(spec.id)
    async let second: Void = agent.destroySandbox(spec.id)
    _ = try await (first, second)
    try await agent.destroySandbox(spec.id)
    try await agent.destroySandbox(SandboxID())
    #expect(world.isEmpty)
  }

  @Test("what a removal could not remove is removed by the next maintenance")
  func retried() async throws {
    let world = try SimulatedWorld()
    let agent = try await world.agent()
    let spec = spec()
    _ = try await agent.createSandbox(spec)
    world.stubbornRemovals.withLock { $0 = 1 }
    await #expect(throws: MartletError.self) { try await agent.destroySandbox(spec.id) }
    #expect(world.now.networks.count == 1)
    #expect(world.now.machines.isEmpty, "the other steps went on")
    #expect(try await agent.sandbox(spec.id).status == .destroying)
    await agent.maintain()
    #expect(world.isEmpty)
    #expect(try await agent.listSandboxes().isEmpty)
  }

  @Test("a failure around any removal step leaves nothing in the end", arguments: removingSteps)
  func faults(step: HostStep) async throws {
    for moment in [StepObserver.Moment.beforeRemoving(step), .afterRemoving(step)] {
      let world = try SimulatedWorld()
      let agent = try await world.agent(observer: failing(at: moment))
      let spec = spec()
      _ = try await agent.createSandbox(spec)
      _ = try? await agent.destroySandbox(spec.id)
      await agent.maintain()
      #expect(world.isEmpty, "\(moment)")
      #expect(try await world.journalIsEmpty, "\(moment)")
    }
  }

  @Test("a VMM that dies makes the sandbox failed with the reason and gives its runtime back")
  func vmmDies() async throws {
    let world = try SimulatedWorld()
    let agent = try await world.agent()
    let spec = spec()
    _ = try await agent.createSandbox(spec)
    world.allMachines.first?.end("the VMM was killed by signal 9")
    try await eventually { try await agent.sandbox(spec.id).status == .error }
    #expect(try await agent.sandbox(spec.id).reason == "the VMM was killed by signal 9")
    try await eventually { world.now.networks.isEmpty && world.now.machines.isEmpty }
    #expect(world.instanceDirectories.count == 1, "the disk is kept until the sandbox is destroyed")
    let error = await #expect(throws: MartletError.self) { try await agent.listProcesses(in: spec.id) }
    #expect(error?.code == .invalidState)
    try await agent.destroySandbox(spec.id)
    #expect(world.isEmpty)
  }
}

@Suite struct RecoveryTests {
  @Test("a new agent adopts what runs, with the same facts")
  func adoption() async throws {
    let world = try SimulatedWorld()
    let spec = spec()
    let before = try await world.agent().createSandbox(spec)
    let agent = try await world.agent()
    let after = try await agent.sandbox(spec.id)
    #expect(after.status == .running)
    #expect(after.hostIP == before.hostIP)
    #expect(after.startedAt == before.startedAt)
    #expect(world.now.machines.count == 1)
    try await agent.destroySandbox(spec.id)
    #expect(world.isEmpty)
  }

  @Test("a VMM that died with the agent is reported, with a reason")
  func bothDied() async throws {
    let world = try SimulatedWorld()
    let spec = spec()
    _ = try await world.agent().createSandbox(spec)
    let machine = try #require(world.allMachines.first)
    // The old agent sees it too; what counts is what the new one finds.
    machine.end("killed")
    let agent = try await world.agent()
    try await eventually { try await agent.sandbox(spec.id).status == .error }
    #expect(world.now.networks.isEmpty)
  }

  @Test(
    "an agent that dies at any step of a creation leaves nothing after recovery and destroy", arguments: makingSteps)
  func diesCreating(step: HostStep) async throws {
    for moment in [StepObserver.Moment.beforeMaking(step), .afterMaking(step)] {
      let world = try SimulatedWorld()
      let (stream, reached) = AsyncStream.makeStream(of: Void.self)
      let dead = try await world.agent(observer: hanging(at: moment, reached: reached))
      let spec = spec()
      Task { try await dead.createSandbox(spec) }
      for await _ in stream { break }

      let agent = try await world.agent()
      let status = try? await agent.sandbox(spec.id).status
      if moment == .afterMaking(.commit) {
        #expect(status == .running, "committed: the sandbox lives")
      } else {
        #expect(status == nil || status == .error, "\(moment): \(String(describing: status))")
        #expect(world.isEmpty, "\(moment): \(world.now) \(world.instanceDirectories)")
      }
      try await agent.destroySandbox(spec.id)
      #expect(world.isEmpty, "\(moment)")
      #expect(try await world.journalIsEmpty, "\(moment)")
      #expect(try await agent.createSandbox(self.spec()).status == .running)
    }
  }

  @Test("an agent that dies at any step of a removal: the next one finishes it", arguments: removingSteps)
  func diesRemoving(step: HostStep) async throws {
    for moment in [StepObserver.Moment.beforeRemoving(step), .afterRemoving(step)] {
      let world = try SimulatedWorld()
      let (stream, reached) = AsyncStream.makeStream(of: Void.self)
      let dead = try await world.agent(observer: hanging(at: moment, reached: reached))
      let spec = spec()
      _ = try await dead.createSandbox(spec)
      Task { try await dead.destroySandbox(spec.id) }
      for await _ in stream { break }

      _ = try await world.agent()
      #expect(world.isEmpty, "\(moment)")
      #expect(try await world.journalIsEmpty, "\(moment)")
    }
  }

  @Test("networks and directories that no journal entry knows are removed, those of others are not")
  func strays() async throws {
    let world = try SimulatedWorld()
    world.change { $0.networks = [3, 4_000] }
    _ = try await world.agent()
    #expect(world.now.networks == [4_000])
  }

  private func spec() -> SandboxSpec { SandboxSpec(teamID: TeamID()) }
}

@Suite struct SandboxLifecycleTests {
  @Test("a destroy request wins from every state but gone")
  func destroyWins() {
    for state in [SandboxLifecycle.State.creating, .running, .failed(reason: "x"), .destroying] {
      var lifecycle = SandboxLifecycle(state)
      #expect(lifecycle.handle(.destroyRequested) != .ignore)
      #expect(lifecycle.state == .destroying)
    }
    var gone = SandboxLifecycle(.gone)
    #expect(gone.handle(.destroyRequested) == .ignore)
  }

  @Test("events that come too late change nothing")
  func late() {
    var lifecycle = SandboxLifecycle(.destroying)
    #expect(lifecycle.handle(.created) == .ignore)
    #expect(lifecycle.handle(.vmmEnded(reason: "x")) == .ignore)
    #expect(lifecycle.state == .destroying)
  }
}
