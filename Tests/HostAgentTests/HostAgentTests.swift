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
    let host = try HostFixture()
    let agent = try await host.agent()
    let spec = spec()
    let report = try await agent.createSandbox(spec)
    #expect(report.status == .running)
    #expect(report.isolation?.vmm == "simulated")
    #expect(host.now.machines.count == 1)
    try await agent.destroySandbox(spec.id)
    #expect(host.isEmpty)
    #expect(try await host.journalIsEmpty)
    #expect(try await agent.listSandboxes().isEmpty)
  }

  @Test("a failure at any step undoes all earlier steps", arguments: makingSteps)
  func rollback(step: HostStep) async throws {
    for moment in [StepObserver.Moment.beforeMaking(step), .afterMaking(step)] {
      let host = try HostFixture()
      let agent = try await host.agent(observer: failing(at: moment))
      await #expect(throws: MartletError.self) { try await agent.createSandbox(spec()) }
      #expect(host.isEmpty, "\(moment): \(host.now) \(host.instanceDirectories)")
      #expect(try await host.journalIsEmpty)
      #expect(try await agent.listSandboxes().isEmpty)
      #expect(try await agent.createSandbox(spec()).status == .running, "the slot is free again")
    }
  }

  @Test("an id is created once")
  func duplicate() async throws {
    let host = try HostFixture()
    let agent = try await host.agent()
    let spec = spec()
    _ = try await agent.createSandbox(spec)
    let error = await #expect(throws: MartletError.self) { try await agent.createSandbox(spec) }
    #expect(error?.code == .alreadyExists)
  }

  @Test("an unknown template is an error of the request and leaves nothing behind")
  func unknownTemplate() async throws {
    let host = try HostFixture()
    let agent = try await host.agent()
    var spec = spec()
    spec.template = try SafeName("nothing")
    let error = await #expect(throws: MartletError.self) { try await agent.createSandbox(spec) }
    #expect(error?.code == .notFound)
    #expect(host.isEmpty)
  }

  @Test("a full host is reported, and has a free slot after a destroy")
  func capacity() async throws {
    let host = try HostFixture()
    let agent = try await host.agent()
    var ids: [SandboxID] = []
    for _ in 0..<8 { ids.append(try await agent.createSandbox(spec()).id) }
    let error = await #expect(throws: MartletError.self) { try await agent.createSandbox(spec()) }
    #expect(error?.code == .hostUnavailable)
    try await agent.destroySandbox(ids[3])
    _ = try await agent.createSandbox(spec())
    #expect(host.now.networks.count == 8)
  }

  @Test("a caller that disconnects does not stop a creation")
  func detachedCaller() async throws {
    let host = try HostFixture()
    host.guestsRespond.withLock { $0 = false }
    let agent = try await host.agent()
    let spec = spec()
    let caller = Task { try await agent.createSandbox(spec) }
    try await eventually { host.now.machines.count == 1 }
    caller.cancel()
    host.guestsRespond.withLock { $0 = true }
    try await eventually { try await agent.sandbox(spec.id).status == .running }
  }

  @Test("the end of a VMM during boot is the reported reason of the failure")
  func endsWhileBooting() async throws {
    let host = try HostFixture()
    host.guestsRespond.withLock { $0 = false }
    let agent = try await host.agent()
    let spec = spec()
    let creation = Task { try await agent.createSandbox(spec) }
    try await eventually { host.now.machines.count == 1 }
    host.allMachines.first?.end("the guest's kernel panicked")
    let error = await #expect(throws: MartletError.self) { try await creation.value }
    #expect(error?.message.contains("kernel panicked") == true)
    #expect(host.isEmpty)
  }
}

@Suite struct DestructionTests {
  @Test("destroy succeeds during a creation")
  func duringCreation() async throws {
    let host = try HostFixture()
    host.guestsRespond.withLock { $0 = false }
    let agent = try await host.agent()
    let spec = spec()
    let creation = Task { try await agent.createSandbox(spec) }
    try await eventually { host.now.machines.count == 1 }
    try await agent.destroySandbox(spec.id)
    let error = await #expect(throws: MartletError.self) { try await creation.value }
    #expect(error?.code == .canceled)
    #expect(host.isEmpty)
    #expect(try await host.journalIsEmpty)
  }

  @Test("concurrent and repeated destroys succeed, also of an unknown sandbox")
  func idempotent() async throws {
    let host = try HostFixture()
    let agent = try await host.agent()
    let spec = spec()
    _ = try await agent.createSandbox(spec)
    async let first: Void = agent.destroySandbox(spec.id)
    async let second: Void = agent.destroySandbox(spec.id)
    _ = try await (first, second)
    try await agent.destroySandbox(spec.id)
    try await agent.destroySandbox(SandboxID())
    #expect(host.isEmpty)
  }

  @Test("a failed removal is completed by the next maintenance")
  func retried() async throws {
    let host = try HostFixture()
    let agent = try await host.agent()
    let spec = spec()
    _ = try await agent.createSandbox(spec)
    host.stubbornRemovals.withLock { $0 = 1 }
    await #expect(throws: MartletError.self) { try await agent.destroySandbox(spec.id) }
    #expect(host.now.networks.count == 1)
    #expect(host.now.machines.isEmpty, "the other steps went on")
    #expect(try await agent.sandbox(spec.id).status == .destroying)
    await agent.maintain()
    #expect(host.isEmpty)
    #expect(try await agent.listSandboxes().isEmpty)
  }

  @Test("after a failure around any removal step nothing is left in the end", arguments: removingSteps)
  func faults(step: HostStep) async throws {
    for moment in [StepObserver.Moment.beforeRemoving(step), .afterRemoving(step)] {
      let host = try HostFixture()
      let agent = try await host.agent(observer: failing(at: moment))
      let spec = spec()
      _ = try await agent.createSandbox(spec)
      _ = try? await agent.destroySandbox(spec.id)
      await agent.maintain()
      #expect(host.isEmpty, "\(moment)")
      #expect(try await host.journalIsEmpty, "\(moment)")
    }
  }

  @Test("the death of a VMM makes the sandbox failed with the reason and releases its runtime")
  func vmmDies() async throws {
    let host = try HostFixture()
    let agent = try await host.agent()
    let spec = spec()
    _ = try await agent.createSandbox(spec)
    host.allMachines.first?.end("the VMM was killed by signal 9")
    try await eventually { try await agent.sandbox(spec.id).status == .error }
    #expect(try await agent.sandbox(spec.id).reason == "the VMM was killed by signal 9")
    try await eventually { host.now.networks.isEmpty && host.now.machines.isEmpty }
    #expect(host.instanceDirectories.count == 1, "the disk is kept until the sandbox is destroyed")
    let error = await #expect(throws: MartletError.self) { try await agent.listProcesses(in: spec.id) }
    #expect(error?.code == .invalidState)
    try await agent.destroySandbox(spec.id)
    #expect(host.isEmpty)
  }
}

@Suite struct RecoveryTests {
  @Test("a new host agent adopts running sandboxes with the same state")
  func adoption() async throws {
    let host = try HostFixture()
    let spec = spec()
    let before = try await host.agent().createSandbox(spec)
    let agent = try await host.agent()
    let after = try await agent.sandbox(spec.id)
    #expect(after.status == .running)
    #expect(after.hostIP == before.hostIP)
    #expect(after.startedAt == before.startedAt)
    #expect(host.now.machines.count == 1)
    try await agent.destroySandbox(spec.id)
    #expect(host.isEmpty)
  }

  @Test("a VMM that died together with the host agent is reported with a reason")
  func bothDied() async throws {
    let host = try HostFixture()
    let spec = spec()
    _ = try await host.agent().createSandbox(spec)
    let machine = try #require(host.allMachines.first)
    // The old host agent sees it too; the test checks what the new one finds.
    machine.end("killed")
    let agent = try await host.agent()
    try await eventually { try await agent.sandbox(spec.id).status == .error }
    #expect(host.now.networks.isEmpty)
  }

  @Test(
    "a host agent that dies at any step of a creation leaves nothing after recovery and destroy", arguments: makingSteps
  )
  func diesCreating(step: HostStep) async throws {
    for moment in [StepObserver.Moment.beforeMaking(step), .afterMaking(step)] {
      let host = try HostFixture()
      let (stream, reached) = AsyncStream.makeStream(of: Void.self)
      let dead = try await host.agent(observer: hanging(at: moment, reached: reached))
      let spec = spec()
      Task { try await dead.createSandbox(spec) }
      for await _ in stream { break }

      let agent = try await host.agent()
      let status = try? await agent.sandbox(spec.id).status
      if moment == .afterMaking(.commit) {
        #expect(status == .running, "committed: the sandbox lives")
      } else {
        #expect(status == nil || status == .error, "\(moment): \(String(describing: status))")
        #expect(host.isEmpty, "\(moment): \(host.now) \(host.instanceDirectories)")
      }
      try await agent.destroySandbox(spec.id)
      #expect(host.isEmpty, "\(moment)")
      #expect(try await host.journalIsEmpty, "\(moment)")
      #expect(try await agent.createSandbox(self.spec()).status == .running)
    }
  }

  @Test("the next host agent completes a removal that was interrupted at any step", arguments: removingSteps)
  func diesRemoving(step: HostStep) async throws {
    for moment in [StepObserver.Moment.beforeRemoving(step), .afterRemoving(step)] {
      let host = try HostFixture()
      let (stream, reached) = AsyncStream.makeStream(of: Void.self)
      let dead = try await host.agent(observer: hanging(at: moment, reached: reached))
      let spec = spec()
      _ = try await dead.createSandbox(spec)
      Task { try await dead.destroySandbox(spec.id) }
      for await _ in stream { break }

      _ = try await host.agent()
      #expect(host.isEmpty, "\(moment)")
      #expect(try await host.journalIsEmpty, "\(moment)")
    }
  }

  @Test("networks and directories without a journal entry are removed, foreign ones are not")
  func orphans() async throws {
    let host = try HostFixture()
    host.change { $0.networks = [3, 4_000] }
    _ = try await host.agent()
    #expect(host.now.networks == [4_000])
  }

  private func spec() -> SandboxSpec { SandboxSpec(teamID: TeamID()) }
}

@Suite struct SandboxLifecycleTests {
  @Test("a destroy request succeeds in every state but removed")
  func destroyWins() {
    for state in [SandboxLifecycle.State.creating, .running, .failed(reason: "x"), .destroying] {
      var lifecycle = SandboxLifecycle(state)
      #expect(lifecycle.handle(.destroyRequested) != .ignore)
      #expect(lifecycle.state == .destroying)
    }
    var removed = SandboxLifecycle(.removed)
    #expect(removed.handle(.destroyRequested) == .ignore)
  }

  @Test("late events change nothing")
  func late() {
    var lifecycle = SandboxLifecycle(.destroying)
    #expect(lifecycle.handle(.created) == .ignore)
    #expect(lifecycle.handle(.vmmEnded(reason: "x")) == .ignore)
    #expect(lifecycle.state == .destroying)
  }
}
