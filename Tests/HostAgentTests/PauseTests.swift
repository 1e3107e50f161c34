import HostAPI
import LinuxSystem
import Model
import NIOCore
import Snapshots
import Testing

@testable import HostAgent

/// All that a pause goes through before the sandbox is its generation.
private let savingSteps: [CheckpointStep] = [
  .journal, .draft, .freeze, .stop, .devices, .memory, .disk, .publish, .commit,
]
private let checkpointSteps: [CheckpointStep] = [
  .draft, .freeze, .stop, .devices, .memory, .disk, .overlay, .run, .publish,
]
private let restoringSteps: [HostStep] = [
  .journal, .directory, .disk, .network, .cgroup, .pager, .vmm, .state, .guest, .commit,
]

/// A sandbox on a simulated host, and the agent of the moment.
private struct Bench {
  let world: SimulatedWorld
  var agent: HostAgent
  let id: SandboxID

  static func make(_ observer: StepObserver = StepObserver(), longestChain: Int = 8) async throws -> Bench {
    let world = try SimulatedWorld()
    let agent = try await world.agent(observer: observer, longestChain: longestChain)
    let spec = SandboxSpec(teamID: TeamID())
    _ = try await agent.createSandbox(spec)
    return Bench(world: world, agent: agent, id: spec.id)
  }

  /// Lets the guest's process do something; returns how often it has.
  @discardableResult
  func work(_ times: Int = 1, _ id: SandboxID? = nil) async throws -> Int {
    let id = id ?? self.id
    for _ in 0..<times { _ = try await agent.listProcesses(in: id) }
    let controller = try agent.controller(id)
    let slot = try #require(await controller.instance?.entry.slot)
    return try #require(world.machine(slot: slot)).counter
  }

  var status: SandboxStatus {
    get async throws { try await agent.sandbox(id).status }
  }

  mutating func restart(_ observer: StepObserver = StepObserver()) async throws {
    agent = try await world.agent(observer: observer)
  }

  func expectGone() async throws {
    try await agent.destroySandbox(id)
    #expect(world.isEmpty, "\(world.now) \(world.instanceDirectories)")
    #expect(try await world.journalIsEmpty)
  }
}

@Suite struct PauseTests {
  @Test("a paused sandbox holds nothing of the host but its generation, and goes on where it was")
  func roundTrip() async throws {
    let bench = try await Bench.make()
    for round in 1...5 {
      #expect(try await bench.work() == round)
      #expect(try await bench.agent.pauseSandbox(bench.id).status == .paused)
      #expect(bench.world.isEmpty, "\(bench.world.now) \(bench.world.instanceDirectories)")
      let report = try await bench.agent.resumeSandbox(bench.id, ResumeOptions(timeoutSeconds: 7))
      #expect(report.status == .running)
      #expect(report.timings.map(\.phase).contains("state"))
    }
    try await bench.expectGone()
  }

  @Test("pausing what is paused and resuming what runs is success, at the host")
  func idempotent() async throws {
    let bench = try await Bench.make()
    _ = try await bench.agent.resumeSandbox(bench.id, ResumeOptions())
    _ = try await bench.agent.pauseSandbox(bench.id)
    _ = try await bench.agent.pauseSandbox(bench.id)
    let error = await #expect(throws: MartletError.self) { try await bench.agent.listProcesses(in: bench.id) }
    #expect(error?.code == .invalidState)
    try await bench.expectGone()
  }

  @Test("who reads a file when its sandbox is paused hears at once that nothing more comes")
  func openDownload() async throws {
    let bench = try await Bench.make()
    let file = try await bench.agent.readFile("/beginning", user: nil, in: bench.id)
    let (beginnings, beginning) = AsyncStream.makeStream(of: String.self)
    let reader = Task {
      for try await chunk in file.body { beginning.yield(String(buffer: chunk)) }
    }
    for await text in beginnings.prefix(1) { #expect(text == "/beginning") }
    _ = try await bench.agent.pauseSandbox(bench.id)
    let error = await #expect(throws: MartletError.self) { try await reader.value }
    #expect(error?.code == .agentError)
    try await bench.expectGone()
  }

  @Test("a pause that fails at any step leaves the sandbox running and at work (L-5)", arguments: savingSteps)
  func failure(step: CheckpointStep) async throws {
    for moment in [StepObserver.Moment.beforeSaving(step), .afterSaving(step)] where moment != .afterSaving(.commit) {
      let fails = Flag()
      var bench = try await Bench.make(StepObserver { now in if now == moment, fails.isOn { throw Injected() } })
      try await bench.work(2)
      fails.set(true)
      await #expect(throws: MartletError.self) { try await bench.agent.pauseSandbox(bench.id) }
      #expect(try await bench.status == .running, "\(moment)")
      #expect(try await bench.work() == 3, "\(moment)")
      fails.set(false)
      _ = try await bench.agent.pauseSandbox(bench.id)
      try await bench.restart()
      _ = try await bench.agent.resumeSandbox(bench.id, ResumeOptions())
      #expect(try await bench.work() == 4, "\(moment)")
      try await bench.expectGone()
    }
  }

  @Test(
    "an agent that dies at any step of a pause: the sandbox runs on, or is paused; nothing is lost",
    arguments: savingSteps)
  func diesPausing(step: CheckpointStep) async throws {
    for moment in [StepObserver.Moment.beforeSaving(step), .afterSaving(step)] {
      let (stream, reached) = AsyncStream.makeStream(of: Void.self)
      let armed = Flag()
      var bench = try await Bench.make(hanging(at: moment, armed, reached: reached))
      try await bench.work(2)
      armed.set(true)
      let (dead, id) = (bench.agent, bench.id)
      Task { try await dead.pauseSandbox(id) }
      for await _ in stream { break }

      try await bench.restart()
      let expected: SandboxStatus = moment == .afterSaving(.commit) ? .paused : .running
      #expect(try await bench.status == expected, "\(moment)")
      _ = try await bench.agent.resumeSandbox(bench.id, ResumeOptions())
      #expect(try await bench.work() == 3, "\(moment)")
      try await bench.expectGone()
    }
  }

  @Test("agent and VM both die in a pause: what was published is the sandbox, otherwise it is lost with a reason")
  func bothDie() async throws {
    for (moment, survives) in [(StepObserver.Moment.afterSaving(.publish), true), (.beforeSaving(.publish), false)] {
      let (stream, reached) = AsyncStream.makeStream(of: Void.self)
      let armed = Flag()
      var bench = try await Bench.make(hanging(at: moment, armed, reached: reached))
      try await bench.work(2)
      armed.set(true)
      let (dead, id) = (bench.agent, bench.id)
      Task { try await dead.pauseSandbox(id) }
      for await _ in stream { break }
      for machine in bench.world.allMachines { machine.end("power") }

      try await bench.restart()
      #expect(try await bench.status == (survives ? .paused : .error))
      if survives {
        _ = try await bench.agent.resumeSandbox(bench.id, ResumeOptions())
        #expect(try await bench.work() == 3)
      }
      try await bench.expectGone()
    }
  }

  @Test("a resume that fails at any step leaves the sandbox paused with all it had", arguments: restoringSteps)
  func resumeFails(step: HostStep) async throws {
    for moment in [StepObserver.Moment.beforeMaking(step), .afterMaking(step)] where moment != .afterMaking(.commit) {
      let fails = Flag()
      let bench = try await Bench.make(StepObserver { now in if now == moment, fails.isOn { throw Injected() } })
      try await bench.work(2)
      _ = try await bench.agent.pauseSandbox(bench.id)
      fails.set(true)
      await #expect(throws: MartletError.self) { try await bench.agent.resumeSandbox(bench.id, ResumeOptions()) }
      #expect(try await bench.status == .paused, "\(moment)")
      #expect(bench.world.isEmpty, "\(moment): \(bench.world.now)")
      fails.set(false)
      _ = try await bench.agent.resumeSandbox(bench.id, ResumeOptions())
      #expect(try await bench.work() == 3, "\(moment)")
      try await bench.expectGone()
    }
  }

  @Test("an agent that dies at any step of a resume: the sandbox is paused, or runs", arguments: restoringSteps)
  func diesResuming(step: HostStep) async throws {
    for moment in [StepObserver.Moment.beforeMaking(step), .afterMaking(step)] {
      let (stream, reached) = AsyncStream.makeStream(of: Void.self)
      let armed = Flag()
      var bench = try await Bench.make(hanging(at: moment, armed, reached: reached))
      try await bench.work(2)
      _ = try await bench.agent.pauseSandbox(bench.id)
      armed.set(true)
      let (dead, id) = (bench.agent, bench.id)
      Task { try await dead.resumeSandbox(id, ResumeOptions()) }
      for await _ in stream { break }

      try await bench.restart()
      #expect(try await bench.status == (moment == .afterMaking(.commit) ? .running : .paused), "\(moment)")
      if try await bench.status == .paused { #expect(bench.world.isEmpty, "\(moment): \(bench.world.now)") }
      _ = try await bench.agent.resumeSandbox(bench.id, ResumeOptions())
      #expect(try await bench.work() == 3, "\(moment)")
      try await bench.expectGone()
    }
  }

  @Test("a caller that goes away does not stop a pause (L-7, TTL-12)")
  func detachedCaller() async throws {
    let (stream, reached) = AsyncStream.makeStream(of: Void.self)
    let proceeds = Flag(true)
    let bench = try await Bench.make(
      StepObserver { now in
        guard now == .beforeSaving(.publish), !proceeds.isOn else { return }
        reached.yield()
        while !proceeds.isOn { await Task.yield() }
      })
    // The template's own checkpoint has passed this step already.
    proceeds.set(false)
    let caller = Task { try await bench.agent.pauseSandbox(bench.id) }
    for await _ in stream { break }
    caller.cancel()
    proceeds.set(true)
    await bench.agent.drain()
    #expect(try await bench.status == .paused)
    try await bench.expectGone()
  }

  @Test("a destroy wins over a pause and over a resume that are under way")
  func destroyWins() async throws {
    for moment in [StepObserver.Moment.afterSaving(.memory), .afterMaking(.vmm)] {
      let (stream, reached) = AsyncStream.makeStream(of: Void.self)
      let armed = Flag()
      let bench = try await Bench.make(
        StepObserver { now in
          guard now == moment, armed.isOn else { return }
          reached.yield()
          while !Task.isCancelled { await Task.yield() }
        })
      if moment == .afterMaking(.vmm) { _ = try await bench.agent.pauseSandbox(bench.id) }
      armed.set(true)
      let work = Task {
        if moment == .afterMaking(.vmm) {
          _ = try await bench.agent.resumeSandbox(bench.id, ResumeOptions())
        } else {
          _ = try await bench.agent.pauseSandbox(bench.id)
        }
      }
      for await _ in stream { break }
      try await bench.expectGone()
      await #expect(throws: MartletError.self) { try await work.value }
    }
  }

  @Test("a damaged generation is refused, the one before it can be chosen")
  func previousGeneration() async throws {
    var bench = try await Bench.make()
    try await bench.work(2)
    _ = try await bench.agent.pauseSandbox(bench.id)
    _ = try await bench.agent.resumeSandbox(bench.id, ResumeOptions())
    try await bench.work(3)
    _ = try await bench.agent.pauseSandbox(bench.id)
    let last = try #require(await bench.agent.controller(bench.id).pausedGeneration)
    try flipBit(in: bench.world.store.generation(last).headerPath)
    try await bench.restart()
    let error = await #expect(throws: MartletError.self) {
      try await bench.agent.resumeSandbox(bench.id, ResumeOptions())
    }
    #expect(error?.code == .snapshotDamaged)
    #expect(error?.message.contains("previous") == true)
    #expect(try await bench.status == .paused)
    _ = try await bench.agent.resumeSandbox(bench.id, ResumeOptions(usesPreviousGeneration: true))
    #expect(try await bench.work() == 3)
    try await bench.expectGone()
  }

  @Test(
    "a guest whose very first page is damaged ends before it has answered: the resume says why, and what can be done (L-22)"
  )
  func firstPageDamaged() async throws {
    let bench = try await Bench.make()
    try await bench.work(2)
    _ = try await bench.agent.pauseSandbox(bench.id)
    bench.world.firstPageIsDamaged.set(true)
    let error = await #expect(throws: MartletError.self) {
      try await bench.agent.resumeSandbox(bench.id, ResumeOptions())
    }
    #expect(error?.code == .snapshotDamaged && error?.message.contains("page 7") == true)
    #expect(try await bench.status == .paused)
    bench.world.firstPageIsDamaged.set(false)
    _ = try await bench.agent.resumeSandbox(bench.id, ResumeOptions())
    #expect(try await bench.work() == 3)
    try await bench.expectGone()
  }

  @Test("generations that nobody needs are collected, those in use are not")
  func collection() async throws {
    let bench = try await Bench.make()
    for _ in 0..<6 {
      try await bench.work()
      _ = try await bench.agent.pauseSandbox(bench.id)
      _ = try await bench.agent.resumeSandbox(bench.id, ResumeOptions())
      await bench.agent.collect()
    }
    #expect(try await bench.work() == 7)
    try await bench.agent.destroySandbox(bench.id)
    await bench.agent.collect()
    #expect(try bench.world.store.generations().count == 1, "the template's own")
    #expect(bench.world.diskLayers.count == 1)
  }

  @Test("a pager that dies under a living VM is replaced")
  func pagerReplaced() async throws {
    let bench = try await Bench.make()
    try await bench.work(2)
    _ = try await bench.agent.pauseSandbox(bench.id)
    _ = try await bench.agent.resumeSandbox(bench.id, ResumeOptions())
    let first = try #require(bench.world.allPagers.first)
    first.end(nil)
    try await eventually { bench.world.allPagers.contains { $0.identity != first.identity } }
    #expect(try await bench.status == .running)
    try await bench.expectGone()
  }

  @Test("a page that cannot be read ends that VM with the reason (L-22)")
  func pageUnreadable() async throws {
    let bench = try await Bench.make()
    _ = try await bench.agent.pauseSandbox(bench.id)
    _ = try await bench.agent.resumeSandbox(bench.id, ResumeOptions())
    bench.world.allPagers.first?.end("page 7 of the snapshot is damaged")
    bench.world.allMachines.first?.end("the VMM was killed by signal 9")
    try await eventually { try await bench.status == .error }
    #expect(try await bench.agent.sandbox(bench.id).reason == "page 7 of the snapshot is damaged")
    try await bench.expectGone()
  }
}

@Suite struct CopyTests {
  private func spec() -> SandboxSpec { SandboxSpec(teamID: TeamID()) }

  @Test("the first sandbox of a template boots, all others are restored from what it left")
  func createIsRestore() async throws {
    let world = try SimulatedWorld()
    let agent = try await world.agent(slots: 32)
    let specs = (0..<10).map { _ in spec() }
    try await withThrowingTaskGroup(of: Void.self) { group in
      for spec in specs { group.addTask { _ = try await agent.createSandbox(spec) } }
      try await group.waitForAll()
    }
    #expect(world.allMachines.count { !$0.isRestored } == 1)
    #expect(world.allMachines.count == 10)
    let next = try await world.agent(slots: 32)
    _ = try await next.createSandbox(spec())
    #expect(world.allMachines.count { !$0.isRestored } == 1, "also after a restart")
  }

  @Test("a pool member becomes the next sandbox; the pool is bounded, refilled, and ends with the agent")
  func warmPool() async throws {
    let world = try SimulatedWorld()
    let agent = try await world.agent(warmPool: 2)
    // The first boots, the second says what is wanted.
    for _ in 0..<2 { _ = try await agent.createSandbox(spec()) }
    try await eventually { await agent.warmPool.instances.count == 2 }
    let ready = Set(await agent.warmPool.instances.map(\.id))
    let spec = spec()
    _ = try await agent.createSandbox(spec)
    #expect(ready.contains(try #require(await agent.controller(spec.id).instance?.id)))
    #expect(world.now.networks.count <= 5)
    try await eventually { await agent.warmPool.instances.count == 2 }
    var other = self.spec()
    other.network = NetworkPolicy(allowsEgress: false)
    _ = try await agent.createSandbox(other)
    #expect(await agent.warmPool.instances.count == 2, "another network needs a microVM of its own")
    for machine in world.allMachines { machine.end("power") }
    _ = try await agent.createSandbox(self.spec())
    await agent.drain()
    for sandbox in try await agent.listSandboxes() { try await agent.destroySandbox(sandbox.id) }
    #expect(world.isEmpty, "\(world.now)")
  }

  @Test("the next agent removes the pool of one that died")
  func poolOfDeadAgent() async throws {
    let world = try SimulatedWorld()
    let dead = try await world.agent(warmPool: 1)
    let specs = [spec(), spec()]
    for spec in specs { _ = try await dead.createSandbox(spec) }
    try await eventually { await dead.warmPool.instances.count == 1 }
    let agent = try await world.agent()
    #expect(world.now.machines.count == 2)
    for spec in specs { try await agent.destroySandbox(spec.id) }
    #expect(world.isEmpty)
  }

  @Test("a template's snapshot that is damaged is made again")
  func damagedTemplate() async throws {
    let bench = try await Bench.make()
    let generation = try #require(await bench.agent.templates.roots.first)
    try flipBit(in: bench.world.store.generation(generation).headerPath)
    _ = try await bench.agent.createSandbox(spec())
    #expect(bench.world.allMachines.count { !$0.isRestored } == 2)
    _ = try await bench.agent.createSandbox(spec())
    #expect(bench.world.allMachines.count { !$0.isRestored } == 2)
  }

  @Test("forks of a running and of a paused sandbox have its memory and go ways of their own")
  func fork() async throws {
    let bench = try await Bench.make()
    try await bench.work(5)
    for isPaused in [false, true] {
      if isPaused { _ = try await bench.agent.pauseSandbox(bench.id) }
      let specs = (0..<3).map { _ in spec() }
      let copies = try await bench.agent.forkSandbox(bench.id, into: specs).map { try $0.get() }
      #expect(copies.map(\.id) == specs.map(\.id))
      for (index, copy) in copies.enumerated() { #expect(try await bench.work(index + 1, copy.id) == 6 + index) }
      for copy in copies { try await bench.agent.destroySandbox(copy.id) }
      if isPaused { _ = try await bench.agent.resumeSandbox(bench.id, ResumeOptions()) }
      #expect(try await bench.work(0) == 5)
    }
    try await bench.expectGone()
  }

  @Test("a named snapshot outlives its sandbox, its copies outlive the snapshot (L-9, SN-5)")
  func named() async throws {
    let bench = try await Bench.make()
    try await bench.work(4)
    let name = try SafeName("frozen")
    let team = TeamID()
    let request = SnapshotRequest(sandboxID: bench.id, name: name, teamID: team)
    let snapshot = try await bench.agent.createSnapshot(request)
    #expect(snapshot.kind == .snapshot && snapshot.shape?.memoryMiB == 512)
    let duplicate = await #expect(throws: MartletError.self) { try await bench.agent.createSnapshot(request) }
    #expect(duplicate?.code == .alreadyExists)
    #expect(try await bench.work() == 5, "the source runs on")
    try await bench.agent.destroySandbox(bench.id)
    await bench.agent.collect()

    let copySpec = SandboxSpec(teamID: team, template: name, memoryMiB: 128)
    let copy = try await bench.agent.createSandbox(copySpec)
    #expect(copy.memoryMiB == 512, "the shape is baked in (SN-2)")
    try await bench.agent.deleteSnapshot(name, team: team)
    await bench.agent.collect()
    #expect(try await bench.work(1, copy.id) == 5)
    _ = try await bench.agent.pauseSandbox(copy.id)
    await bench.agent.collect()
    _ = try await bench.agent.resumeSandbox(copy.id, ResumeOptions())
    #expect(try await bench.work(1, copy.id) == 6)
    let late = SandboxSpec(teamID: team, template: name)
    let gone = await #expect(throws: MartletError.self) { try await bench.agent.createSandbox(late) }
    #expect(gone?.code == .notFound)
  }

  @Test("a checkpoint of a running sandbox that fails at any step disturbs nothing", arguments: checkpointSteps)
  func checkpointFails(step: CheckpointStep) async throws {
    for moment in [StepObserver.Moment.beforeSaving(step), .afterSaving(step)] {
      let fails = Flag()
      let bench = try await Bench.make(StepObserver { now in if now == moment, fails.isOn { throw Injected() } })
      try await bench.work(2)
      fails.set(true)
      await #expect(throws: MartletError.self) { try await bench.agent.forkSandbox(bench.id, into: [spec()]) }
      #expect(try await bench.work() == 3, "\(moment)")
      fails.set(false)
      await bench.agent.collect()
      for _ in 0..<2 {
        let copy = try #require(await bench.agent.forkSandbox(bench.id, into: [spec()]).first).get()
        #expect(try await bench.work(1, copy.id) == 4, "\(moment)")
        try await bench.agent.destroySandbox(copy.id)
        await bench.agent.collect()
      }
      _ = try await bench.agent.pauseSandbox(bench.id)
      await bench.agent.collect()
      _ = try await bench.agent.resumeSandbox(bench.id, ResumeOptions())
      #expect(try await bench.work() == 4, "\(moment)")
      try await bench.expectGone()
    }
  }

  @Test(
    "an agent that dies at any step of a checkpoint: the sandbox runs on, and can be paused", arguments: checkpointSteps
  )
  func diesInCheckpoint(step: CheckpointStep) async throws {
    for moment in [StepObserver.Moment.beforeSaving(step), .afterSaving(step)] {
      let (stream, reached) = AsyncStream.makeStream(of: Void.self)
      let armed = Flag()
      var bench = try await Bench.make(hanging(at: moment, armed, reached: reached))
      try await bench.work(2)
      armed.set(true)
      let (dead, id) = (bench.agent, bench.id)
      let copy = spec()
      Task { try await dead.forkSandbox(id, into: [copy]) }
      for await _ in stream { break }

      try await bench.restart()
      #expect(try await bench.work() == 3, "\(moment)")
      _ = try await bench.agent.pauseSandbox(bench.id)
      await bench.agent.collect()
      _ = try await bench.agent.resumeSandbox(bench.id, ResumeOptions())
      #expect(try await bench.work() == 4, "\(moment)")
      try await bench.expectGone()
    }
  }
}
