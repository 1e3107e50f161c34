import HostAPI
import LinuxSystem
import Model
import NIOCore
import Snapshots
import Testing

@testable import HostAgent

/// The steps of a pause before it is committed.
private let savingSteps: [CheckpointStep] = [
  .journal, .draft, .freeze, .stop, .devices, .memory, .disk, .publish, .commit,
]
private let checkpointSteps: [CheckpointStep] = [
  .draft, .freeze, .stop, .devices, .memory, .overlay, .run, .disk, .publish,
]
private let restoringSteps: [HostStep] = [
  .journal, .directory, .disk, .network, .cgroup, .pager, .vmm, .state, .guest, .commit,
]

/// A sandbox on a simulated host, and the present host agent.
private struct PauseFixture {
  let host: HostFixture
  var agent: HostAgent
  let id: SandboxID

  static func make(_ observer: StepObserver = StepObserver(), longestChain: Int = 8) async throws -> PauseFixture {
    let host = try HostFixture()
    let agent = try await host.agent(observer: observer, longestChain: longestChain)
    let spec = SandboxSpec(teamID: TeamID())
    _ = try await agent.createSandbox(spec)
    return PauseFixture(host: host, agent: agent, id: spec.id)
  }

  /// Makes the guest's process count; returns the count.
  @discardableResult
  func work(_ times: Int = 1, _ id: SandboxID? = nil) async throws -> Int {
    let id = id ?? self.id
    for _ in 0..<times { _ = try await agent.listProcesses(in: id) }
    let controller = try agent.controller(id)
    let slot = try #require(await controller.instance?.entry.slot)
    return try #require(host.machine(slot: slot)).counter
  }

  var status: SandboxStatus {
    get async throws { try await agent.sandbox(id).status }
  }

  mutating func restart(_ observer: StepObserver = StepObserver()) async throws {
    agent = try await host.agent(observer: observer)
  }

  func expectGone() async throws {
    try await agent.destroySandbox(id)
    #expect(host.isEmpty, "\(host.now) \(host.instanceDirectories)")
    #expect(try await host.journalIsEmpty)
  }
}

@Suite struct PauseTests {
  @Test("a paused sandbox holds only its generation on the host, and continues where it was")
  func roundTrip() async throws {
    let fixture = try await PauseFixture.make()
    for round in 1...5 {
      #expect(try await fixture.work() == round)
      #expect(try await fixture.agent.pauseSandbox(fixture.id).status == .paused)
      #expect(fixture.host.isEmpty, "\(fixture.host.now) \(fixture.host.instanceDirectories)")
      let report = try await fixture.agent.resumeSandbox(fixture.id, ResumeOptions(timeoutSeconds: 7))
      #expect(report.status == .running)
      #expect(report.timings.map(\.phase).contains("state"))
    }
    try await fixture.expectGone()
  }

  @Test("pausing a paused and resuming a running sandbox is success at the host")
  func idempotent() async throws {
    let fixture = try await PauseFixture.make()
    _ = try await fixture.agent.resumeSandbox(fixture.id, ResumeOptions())
    _ = try await fixture.agent.pauseSandbox(fixture.id)
    _ = try await fixture.agent.pauseSandbox(fixture.id)
    let error = await #expect(throws: MartletError.self) { try await fixture.agent.listProcesses(in: fixture.id) }
    #expect(error?.code == .invalidState)
    try await fixture.expectGone()
  }

  @Test("reading a file ends at once when the sandbox is paused")
  func openDownload() async throws {
    let fixture = try await PauseFixture.make()
    let file = try await fixture.agent.readFile("/beginning", user: nil, in: fixture.id)
    let (beginnings, beginning) = AsyncStream.makeStream(of: String.self)
    let reader = Task {
      for try await chunk in file.body { beginning.yield(String(buffer: chunk)) }
    }
    for await text in beginnings.prefix(1) { #expect(text == "/beginning") }
    _ = try await fixture.agent.pauseSandbox(fixture.id)
    let error = await #expect(throws: MartletError.self) { try await reader.value }
    #expect(error?.code == .agentError)
    try await fixture.expectGone()
  }

  @Test("a pause that fails at any step leaves the sandbox running", arguments: savingSteps)
  func failure(step: CheckpointStep) async throws {
    for moment in [StepObserver.Moment.beforeSaving(step), .afterSaving(step)] where moment != .afterSaving(.commit) {
      let fails = Flag()
      var fixture = try await PauseFixture.make(
        StepObserver { now in if now == moment, fails.isOn { throw Injected() } })
      try await fixture.work(2)
      fails.set(true)
      await #expect(throws: MartletError.self) { try await fixture.agent.pauseSandbox(fixture.id) }
      #expect(try await fixture.status == .running, "\(moment)")
      #expect(try await fixture.work() == 3, "\(moment)")
      fails.set(false)
      _ = try await fixture.agent.pauseSandbox(fixture.id)
      try await fixture.restart()
      _ = try await fixture.agent.resumeSandbox(fixture.id, ResumeOptions())
      #expect(try await fixture.work() == 4, "\(moment)")
      try await fixture.expectGone()
    }
  }

  @Test(
    "after a host agent's death at any step of a pause the sandbox runs or is paused; nothing is lost",
    arguments: savingSteps)
  func diesPausing(step: CheckpointStep) async throws {
    for moment in [StepObserver.Moment.beforeSaving(step), .afterSaving(step)] {
      let (stream, reached) = AsyncStream.makeStream(of: Void.self)
      let armed = Flag()
      var fixture = try await PauseFixture.make(hanging(at: moment, armed, reached: reached))
      try await fixture.work(2)
      armed.set(true)
      let (dead, id) = (fixture.agent, fixture.id)
      Task { try await dead.pauseSandbox(id) }
      for await _ in stream { break }

      try await fixture.restart()
      let expected: SandboxStatus = moment == .afterSaving(.commit) ? .paused : .running
      #expect(try await fixture.status == expected, "\(moment)")
      _ = try await fixture.agent.resumeSandbox(fixture.id, ResumeOptions())
      #expect(try await fixture.work() == 3, "\(moment)")
      try await fixture.expectGone()
    }
  }

  @Test("when host agent and VM die in a pause, a published generation is kept, else the sandbox is lost with a reason")
  func bothDie() async throws {
    for (moment, survives) in [(StepObserver.Moment.afterSaving(.publish), true), (.beforeSaving(.publish), false)] {
      let (stream, reached) = AsyncStream.makeStream(of: Void.self)
      let armed = Flag()
      var fixture = try await PauseFixture.make(hanging(at: moment, armed, reached: reached))
      try await fixture.work(2)
      armed.set(true)
      let (dead, id) = (fixture.agent, fixture.id)
      Task { try await dead.pauseSandbox(id) }
      for await _ in stream { break }
      for machine in fixture.host.allMachines { machine.end("power") }

      try await fixture.restart()
      #expect(try await fixture.status == (survives ? .paused : .error))
      if survives {
        _ = try await fixture.agent.resumeSandbox(fixture.id, ResumeOptions())
        #expect(try await fixture.work() == 3)
      }
      try await fixture.expectGone()
    }
  }

  @Test("a resume that fails at any step leaves the sandbox paused with its generations", arguments: restoringSteps)
  func resumeFails(step: HostStep) async throws {
    for moment in [StepObserver.Moment.beforeMaking(step), .afterMaking(step)] where moment != .afterMaking(.commit) {
      let fails = Flag()
      let fixture = try await PauseFixture.make(
        StepObserver { now in if now == moment, fails.isOn { throw Injected() } })
      try await fixture.work(2)
      _ = try await fixture.agent.pauseSandbox(fixture.id)
      fails.set(true)
      await #expect(throws: MartletError.self) { try await fixture.agent.resumeSandbox(fixture.id, ResumeOptions()) }
      #expect(try await fixture.status == .paused, "\(moment)")
      #expect(fixture.host.isEmpty, "\(moment): \(fixture.host.now)")
      fails.set(false)
      _ = try await fixture.agent.resumeSandbox(fixture.id, ResumeOptions())
      #expect(try await fixture.work() == 3, "\(moment)")
      try await fixture.expectGone()
    }
  }

  @Test("after a host agent's death at any step of a resume the sandbox is paused or runs", arguments: restoringSteps)
  func diesResuming(step: HostStep) async throws {
    for moment in [StepObserver.Moment.beforeMaking(step), .afterMaking(step)] {
      let (stream, reached) = AsyncStream.makeStream(of: Void.self)
      let armed = Flag()
      var fixture = try await PauseFixture.make(hanging(at: moment, armed, reached: reached))
      try await fixture.work(2)
      _ = try await fixture.agent.pauseSandbox(fixture.id)
      armed.set(true)
      let (dead, id) = (fixture.agent, fixture.id)
      Task { try await dead.resumeSandbox(id, ResumeOptions()) }
      for await _ in stream { break }

      try await fixture.restart()
      #expect(try await fixture.status == (moment == .afterMaking(.commit) ? .running : .paused), "\(moment)")
      if try await fixture.status == .paused { #expect(fixture.host.isEmpty, "\(moment): \(fixture.host.now)") }
      _ = try await fixture.agent.resumeSandbox(fixture.id, ResumeOptions())
      #expect(try await fixture.work() == 3, "\(moment)")
      try await fixture.expectGone()
    }
  }

  @Test("a caller that disconnects does not stop a pause")
  func detachedCaller() async throws {
    let (stream, reached) = AsyncStream.makeStream(of: Void.self)
    let proceeds = Flag(true)
    let fixture = try await PauseFixture.make(
      StepObserver { now in
        guard now == .beforeSaving(.publish), !proceeds.isOn else { return }
        reached.yield()
        while !proceeds.isOn { await Task.yield() }
      })
    // The template's own checkpoint has passed this step already.
    proceeds.set(false)
    let caller = Task { try await fixture.agent.pauseSandbox(fixture.id) }
    for await _ in stream { break }
    caller.cancel()
    proceeds.set(true)
    await fixture.agent.drain()
    #expect(try await fixture.status == .paused)
    try await fixture.expectGone()
  }

  @Test("destroy succeeds during a pause and during a resume")
  func destroyWins() async throws {
    for moment in [StepObserver.Moment.afterSaving(.memory), .afterMaking(.vmm)] {
      let (stream, reached) = AsyncStream.makeStream(of: Void.self)
      let armed = Flag()
      let fixture = try await PauseFixture.make(
        StepObserver { now in
          guard now == moment, armed.isOn else { return }
          reached.yield()
          while !Task.isCancelled { await Task.yield() }
        })
      if moment == .afterMaking(.vmm) { _ = try await fixture.agent.pauseSandbox(fixture.id) }
      armed.set(true)
      let work = Task {
        if moment == .afterMaking(.vmm) {
          _ = try await fixture.agent.resumeSandbox(fixture.id, ResumeOptions())
        } else {
          _ = try await fixture.agent.pauseSandbox(fixture.id)
        }
      }
      for await _ in stream { break }
      try await fixture.expectGone()
      await #expect(throws: MartletError.self) { try await work.value }
    }
  }

  @Test("a damaged generation is refused, and the previous one can be resumed")
  func previousGeneration() async throws {
    var fixture = try await PauseFixture.make()
    try await fixture.work(2)
    _ = try await fixture.agent.pauseSandbox(fixture.id)
    _ = try await fixture.agent.resumeSandbox(fixture.id, ResumeOptions())
    try await fixture.work(3)
    _ = try await fixture.agent.pauseSandbox(fixture.id)
    let last = try #require(await fixture.agent.controller(fixture.id).pausedGeneration)
    try flipBit(in: fixture.host.store.generation(last).headerPath)
    try await fixture.restart()
    let error = await #expect(throws: MartletError.self) {
      try await fixture.agent.resumeSandbox(fixture.id, ResumeOptions())
    }
    #expect(error?.code == .snapshotDamaged)
    #expect(error?.message.contains("previous") == true)
    #expect(try await fixture.status == .paused)
    _ = try await fixture.agent.resumeSandbox(fixture.id, ResumeOptions(usesPreviousGeneration: true))
    #expect(try await fixture.work() == 3)
    try await fixture.expectGone()
  }

  @Test(
    "a damaged first page fails the resume with a reason and advice"
  )
  func firstPageDamaged() async throws {
    let fixture = try await PauseFixture.make()
    try await fixture.work(2)
    _ = try await fixture.agent.pauseSandbox(fixture.id)
    fixture.host.firstPageIsDamaged.set(true)
    let error = await #expect(throws: MartletError.self) {
      try await fixture.agent.resumeSandbox(fixture.id, ResumeOptions())
    }
    #expect(error?.code == .snapshotDamaged && error?.message.contains("page 7") == true)
    #expect(try await fixture.status == .paused)
    fixture.host.firstPageIsDamaged.set(false)
    _ = try await fixture.agent.resumeSandbox(fixture.id, ResumeOptions())
    #expect(try await fixture.work() == 3)
    try await fixture.expectGone()
  }

  @Test("unneeded generations are collected, needed ones are not")
  func collection() async throws {
    let fixture = try await PauseFixture.make()
    for _ in 0..<6 {
      try await fixture.work()
      _ = try await fixture.agent.pauseSandbox(fixture.id)
      _ = try await fixture.agent.resumeSandbox(fixture.id, ResumeOptions())
      await fixture.agent.collect()
    }
    #expect(try await fixture.work() == 7)
    try await fixture.agent.destroySandbox(fixture.id)
    await fixture.agent.collect()
    #expect(try fixture.host.store.generations().count == 1, "the template's own")
  }

  @Test("a pager that dies under a running VM is replaced")
  func pagerReplaced() async throws {
    let fixture = try await PauseFixture.make()
    try await fixture.work(2)
    _ = try await fixture.agent.pauseSandbox(fixture.id)
    _ = try await fixture.agent.resumeSandbox(fixture.id, ResumeOptions())
    let first = try #require(fixture.host.allPagers.first)
    first.end(nil)
    try await eventually { fixture.host.allPagers.contains { $0.identity != first.identity } }
    #expect(try await fixture.status == .running)
    try await fixture.expectGone()
  }

  @Test("an unreadable page ends that VM with the reason")
  func pageUnreadable() async throws {
    let fixture = try await PauseFixture.make()
    _ = try await fixture.agent.pauseSandbox(fixture.id)
    _ = try await fixture.agent.resumeSandbox(fixture.id, ResumeOptions())
    fixture.host.allPagers.first?.end("page 7 of the snapshot is damaged")
    fixture.host.allMachines.first?.end("the VMM was killed by signal 9")
    try await eventually { try await fixture.status == .error }
    #expect(try await fixture.agent.sandbox(fixture.id).reason == "page 7 of the snapshot is damaged")
    try await fixture.expectGone()
  }
}

@Suite struct CopyTests {
  private func spec() -> SandboxSpec { SandboxSpec(teamID: TeamID()) }

  @Test("the first sandbox of a template boots, later ones are restored from its snapshot")
  func createIsRestore() async throws {
    let host = try HostFixture()
    let agent = try await host.agent(slots: 32)
    let specs = (0..<10).map { _ in spec() }
    try await withThrowingTaskGroup(of: Void.self) { group in
      for spec in specs { group.addTask { _ = try await agent.createSandbox(spec) } }
      try await group.waitForAll()
    }
    #expect(host.allMachines.count { !$0.isRestored } == 1)
    #expect(host.allMachines.count == 10)
    let next = try await host.agent(slots: 32)
    _ = try await next.createSandbox(spec())
    #expect(host.allMachines.count { !$0.isRestored } == 1, "also after a restart")
  }

  @Test("a pool member becomes the next sandbox; the pool is bounded, refilled, and ends with the host agent")
  func warmPool() async throws {
    let host = try HostFixture()
    let agent = try await host.agent(warmPool: 2)
    // The first create boots, the second one records the kind for the pool.
    for _ in 0..<2 { _ = try await agent.createSandbox(spec()) }
    try await eventually { await agent.warmPool.instances.count == 2 }
    let ready = Set(await agent.warmPool.instances.map(\.id))
    let spec = spec()
    _ = try await agent.createSandbox(spec)
    #expect(ready.contains(try #require(await agent.controller(spec.id).instance?.id)))
    #expect(host.now.networks.count <= 5)
    try await eventually { await agent.warmPool.instances.count == 2 }
    var other = self.spec()
    other.network = NetworkPolicy(allowsEgress: false)
    _ = try await agent.createSandbox(other)
    #expect(await agent.warmPool.instances.count == 2, "another network needs a microVM of its own")
    for machine in host.allMachines { machine.end("power") }
    _ = try await agent.createSandbox(self.spec())
    await agent.drain()
    for sandbox in try await agent.listSandboxes() { try await agent.destroySandbox(sandbox.id) }
    #expect(host.isEmpty, "\(host.now)")
  }

  @Test("the next host agent removes the pool of a dead one")
  func poolOfDeadAgent() async throws {
    let host = try HostFixture()
    let dead = try await host.agent(warmPool: 1)
    let specs = [spec(), spec()]
    for spec in specs { _ = try await dead.createSandbox(spec) }
    try await eventually { await dead.warmPool.instances.count == 1 }
    let agent = try await host.agent()
    #expect(host.now.machines.count == 2)
    for spec in specs { try await agent.destroySandbox(spec.id) }
    #expect(host.isEmpty)
  }

  @Test("a damaged template snapshot is made again")
  func damagedTemplate() async throws {
    let fixture = try await PauseFixture.make()
    let generation = try #require(await fixture.agent.templates.roots.first)
    try flipBit(in: fixture.host.store.generation(generation).headerPath)
    _ = try await fixture.agent.createSandbox(spec())
    #expect(fixture.host.allMachines.count { !$0.isRestored } == 2)
    _ = try await fixture.agent.createSandbox(spec())
    #expect(fixture.host.allMachines.count { !$0.isRestored } == 2)
  }

  @Test("forks of a running and of a paused sandbox have its memory and are independent")
  func fork() async throws {
    let fixture = try await PauseFixture.make()
    try await fixture.work(5)
    for isPaused in [false, true] {
      if isPaused { _ = try await fixture.agent.pauseSandbox(fixture.id) }
      let specs = (0..<3).map { _ in spec() }
      let copies = try await fixture.agent.forkSandbox(fixture.id, into: specs).map { try $0.get() }
      #expect(copies.map(\.id) == specs.map(\.id))
      for (index, copy) in copies.enumerated() { #expect(try await fixture.work(index + 1, copy.id) == 6 + index) }
      for copy in copies { try await fixture.agent.destroySandbox(copy.id) }
      if isPaused { _ = try await fixture.agent.resumeSandbox(fixture.id, ResumeOptions()) }
      #expect(try await fixture.work(0) == 5)
    }
    try await fixture.expectGone()
  }

  @Test("a named snapshot outlives its sandbox, and its copies outlive the snapshot")
  func named() async throws {
    let fixture = try await PauseFixture.make()
    try await fixture.work(4)
    let name = try SafeName("frozen")
    let team = TeamID()
    let request = SnapshotRequest(sandboxID: fixture.id, name: name, teamID: team)
    let snapshot = try await fixture.agent.createSnapshot(request)
    #expect(snapshot.kind == .snapshot && snapshot.shape?.memoryMiB == 512)
    let duplicate = await #expect(throws: MartletError.self) { try await fixture.agent.createSnapshot(request) }
    #expect(duplicate?.code == .alreadyExists)
    #expect(try await fixture.work() == 5, "the source runs on")
    try await fixture.agent.destroySandbox(fixture.id)
    await fixture.agent.collect()

    let copySpec = SandboxSpec(teamID: team, template: name, memoryMiB: 128)
    let copy = try await fixture.agent.createSandbox(copySpec)
    #expect(copy.memoryMiB == 512, "the shape is baked in (SN-2)")
    try await fixture.agent.deleteSnapshot(name, team: team)
    await fixture.agent.collect()
    #expect(try await fixture.work(1, copy.id) == 5)
    _ = try await fixture.agent.pauseSandbox(copy.id)
    await fixture.agent.collect()
    _ = try await fixture.agent.resumeSandbox(copy.id, ResumeOptions())
    #expect(try await fixture.work(1, copy.id) == 6)
    let late = SandboxSpec(teamID: team, template: name)
    let gone = await #expect(throws: MartletError.self) { try await fixture.agent.createSandbox(late) }
    #expect(gone?.code == .notFound)
  }

  @Test("a failed checkpoint at any step does not affect the running sandbox", arguments: checkpointSteps)
  func checkpointFails(step: CheckpointStep) async throws {
    for moment in [StepObserver.Moment.beforeSaving(step), .afterSaving(step)] {
      let fails = Flag()
      let fixture = try await PauseFixture.make(
        StepObserver { now in if now == moment, fails.isOn { throw Injected() } })
      try await fixture.work(2)
      fails.set(true)
      await #expect(throws: MartletError.self) { try await fixture.agent.forkSandbox(fixture.id, into: [spec()]) }
      #expect(try await fixture.work() == 3, "\(moment)")
      fails.set(false)
      await fixture.agent.collect()
      for _ in 0..<2 {
        let copy = try #require(await fixture.agent.forkSandbox(fixture.id, into: [spec()]).first).get()
        #expect(try await fixture.work(1, copy.id) == 4, "\(moment)")
        try await fixture.agent.destroySandbox(copy.id)
        await fixture.agent.collect()
      }
      _ = try await fixture.agent.pauseSandbox(fixture.id)
      await fixture.agent.collect()
      _ = try await fixture.agent.resumeSandbox(fixture.id, ResumeOptions())
      #expect(try await fixture.work() == 4, "\(moment)")
      try await fixture.expectGone()
    }
  }

  @Test(
    "after a host agent's death at any step of a checkpoint the sandbox runs and can be paused",
    arguments: checkpointSteps
  )
  func diesInCheckpoint(step: CheckpointStep) async throws {
    for moment in [StepObserver.Moment.beforeSaving(step), .afterSaving(step)] {
      let (stream, reached) = AsyncStream.makeStream(of: Void.self)
      let armed = Flag()
      var fixture = try await PauseFixture.make(hanging(at: moment, armed, reached: reached))
      try await fixture.work(2)
      armed.set(true)
      let (dead, id) = (fixture.agent, fixture.id)
      let copy = spec()
      Task { try await dead.forkSandbox(id, into: [copy]) }
      for await _ in stream { break }

      try await fixture.restart()
      #expect(try await fixture.work() == 3, "\(moment)")
      _ = try await fixture.agent.pauseSandbox(fixture.id)
      await fixture.agent.collect()
      _ = try await fixture.agent.resumeSandbox(fixture.id, ResumeOptions())
      #expect(try await fixture.work() == 4, "\(moment)")
      try await fixture.expectGone()
    }
  }
}
