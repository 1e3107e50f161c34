import Concurrency
import HostAPI
import LinuxSystem
import Logging
import Model
import Testing

@testable import HostAgent

private func spec() -> SandboxSpec { SandboxSpec(teamID: TeamID()) }

@Suite("What cannot be found out is not taken for gone")
struct UncertaintyTests {
  @Test("An agent that has no descriptor to look for a VMM with marks nothing lost; the next start adopts it")
  func withoutDescriptors() async throws {
    let world = try HostFixture()
    let first = try await world.agent()
    let (booted, restored) = (spec(), spec())
    _ = try await first.createSandbox(booted)
    _ = try await first.createSandbox(restored)
    let machines = world.now.machines
    // Each time it gets a little further before it has no descriptor left.
    for lookUps in 0..<4 {
      world.processLookUps.withLock { $0 = lookUps }
      let error = await #expect(throws: MartletError.self, "\(lookUps)") { try await world.agent() }
      #expect(error?.code == .hostUnavailable)
      #expect(world.now.machines == machines)
      #expect(try await world.journal().sandboxes().allSatisfy { $0.phase == .running })
    }
    world.processLookUps.withLock { $0 = .max }
    let agent = try await world.agent()
    for id in [booted.id, restored.id] {
      #expect(try await agent.sandbox(id).status == .running)
      _ = try await agent.listProcesses(in: id)
    }
    #expect(world.now.machines == machines)
    #expect(world.now.pagers.count == 1)
  }

  @Test("A removal that cannot look for the VMM fails and is tried again; it removes nothing from under a living VMM")
  func removal() async throws {
    let world = try HostFixture()
    let first = try await world.agent()
    let spec = spec()
    _ = try await first.createSandbox(spec)
    var entry = try #require(try await world.journal().sandboxes().first)
    entry.phase = .destroying
    try await world.journal().update(entry)
    world.processLookUps.withLock { $0 = 0 }
    let agent = try await world.agent()
    #expect(world.now.machines.count == 1)
    world.processLookUps.withLock { $0 = .max }
    await agent.maintain()
    #expect(world.isEmpty, "\(world.now) \(world.instanceDirectories)")
  }
}

@Suite("Bounds of one sandbox's operations")
struct BoundTests {
  @Test("Waiting for the end of a VMM while a call is under way leaves no task behind")
  func whileAlive() async throws {
    let world = try HostFixture()
    let agent = try await world.agent()
    let spec = spec()
    _ = try await agent.createSandbox(spec)
    let instance = try #require(await agent.controller(spec.id).instance)
    let machine = try #require(world.allMachines.first)
    // The one that watches it.
    try await eventually { machine.waiterCount == 1 }
    for _ in 0..<200 { try await instance.whileAlive {} }
    try await eventually { machine.waiterCount == 1 }
    try await agent.destroySandbox(spec.id)
  }

  @Test("A VMM that does not end when it is killed holds up a destroy until its deadline, not for ever")
  func unkillable() async throws {
    let world = try HostFixture()
    let agent = try await world.agent { $0.undoDeadline = .milliseconds(100) }
    let spec = spec()
    _ = try await agent.createSandbox(spec)
    world.machinesHang.set(true)
    let error = await #expect(throws: MartletError.self) { try await agent.destroySandbox(spec.id) }
    #expect(error?.code == .internalError)
    #expect(world.now.machines.count == 1)
    #expect(try await agent.sandbox(spec.id).status == .destroying)
    world.machinesHang.set(false)
    await agent.maintain()
    #expect(world.isEmpty, "\(world.now) \(world.instanceDirectories)")
  }

  @Test("A stop waits for operations that are under way until its deadline, not for ever")
  func drain() async throws {
    let world = try HostFixture()
    let hold = Hold(at: .beforeSaving(.freeze))
    let agent = try await world.agent(observer: hold.observer) { $0.drainDeadline = .milliseconds(100) }
    let spec = spec()
    _ = try await agent.createSandbox(spec)
    hold.isArmed.set(true)
    let pause = Task { try await agent.pauseSandbox(spec.id) }
    try await eventually { hold.isReached.isOn }
    let begin = ContinuousClock.now
    await agent.drain()
    #expect(ContinuousClock.now - begin >= .milliseconds(100))
    #expect(try await agent.sandbox(spec.id).status == .pausing)
    hold.isArmed.set(false)
    #expect(try await pause.value.status == .paused)
    // With nothing under way it returns at once.
    await agent.drain()
  }

  @Test("Only so many operations wait for one sandbox; a destroy is always let in, and once")
  func queue() async throws {
    let world = try HostFixture()
    let hold = Hold(at: .beforeSaving(.freeze))
    let agent = try await world.agent(observer: hold.observer)
    let spec = spec()
    _ = try await agent.createSandbox(spec)
    hold.isArmed.set(true)
    let bound = SandboxController.maximumPendingOperations
    let outcomes = await withTaskGroup(of: Result<SandboxStatus, any Error>.self) { group in
      for _ in 0..<bound + 10 {
        group.addTask {
          do { return .success(try await agent.pauseSandbox(spec.id).status) } catch { return .failure(error) }
        }
      }
      var outcomes: [Result<SandboxStatus, any Error>] = []
      for await outcome in group {
        outcomes.append(outcome)
        // All that are refused are refused at once; the others wait for the first.
        if outcomes.count == 10 { hold.isArmed.set(false) }
      }
      return outcomes
    }
    let refusals = outcomes.compactMap { if case .failure(let error) = $0 { error as? MartletError } else { nil } }
    #expect(refusals.count == 10 && refusals.allSatisfy { $0.code == .rateLimited })
    #expect(outcomes.count { (try? $0.get()) == .paused } == bound)
    await withTaskGroup(of: Void.self) { group in
      for _ in 0..<100 { group.addTask { try? await agent.destroySandbox(spec.id) } }
    }
    #expect(world.isEmpty)
    #expect(try await world.journalIsEmpty)
  }

  @Test("More starts than may wait are refused, and the others succeed")
  func starts() async throws {
    let world = try HostFixture()
    world.guestsRespond.withLock { $0 = false }
    let agent = try await world.agent { $0.maximumWaitingStarts = 2 }
    // One boots, two wait for what it keeps.
    let creations = (0..<3).map { _ in Task { try await agent.createSandbox(spec()).status } }
    try await eventually { await agent.templates.waiterCount == 2 }
    let error = await #expect(throws: MartletError.self) { try await agent.createSandbox(spec()) }
    #expect(error?.code == .hostUnavailable)
    world.guestsRespond.withLock { $0 = true }
    for creation in creations { #expect(try await creation.value == .running) }
  }
}

@Suite("Time-outs that are set at the wrong moment")
struct TimeoutTests {
  @Test("A time-out that is set while a pause is committed is not lost")
  func duringPause() async throws {
    let world = try HostFixture()
    let spec = spec()
    let hold = Hold(at: .beforeSaving(.commit))
    let agent = try await world.agent(observer: hold.observer)
    _ = try await agent.createSandbox(spec)
    for seconds in 100..<120 {
      hold.onReached.withLock { $0 = { Task { try await agent.setTimeout(seconds, of: spec.id) } } }
      _ = try await agent.pauseSandbox(spec.id)
      try await hold.started.withLock { $0 }?.value
      let entry = try #require(try await world.journal().sandboxes().first)
      #expect(entry.spec.timeoutSeconds == seconds)
      #expect(entry.phase == .paused && entry.pending == nil)
      hold.onReached.withLock { $0 = nil }
      _ = try await agent.resumeSandbox(spec.id, ResumeOptions(timeoutSeconds: 7))
    }
  }

  @Test("A time-out that is set while a sandbox is resumed counts, not the one that the resume began with")
  func duringResume() async throws {
    let world = try HostFixture()
    let spec = spec()
    let hold = Hold(at: .afterMaking(.guest))
    let agent = try await world.agent(observer: hold.observer)
    _ = try await agent.createSandbox(spec)
    _ = try await agent.pauseSandbox(spec.id)
    hold.onReached.withLock { $0 = { Task { try await agent.setTimeout(1, of: spec.id) } } }
    hold.waitsForTask.set(true)
    _ = try await agent.resumeSandbox(spec.id, ResumeOptions(timeoutSeconds: 3_600))
    let entry = try #require(try await world.journal().sandboxes().first)
    #expect(entry.spec.timeoutSeconds == 1)
    let activity = try agent.controller(spec.id).activity
    try await eventually { activity.isExpired }
  }
}

@Suite("What a guest prints")
struct GuestTextTests {
  private static let secret = "tenant-secret-on-console"

  @Test("The log of the operator has nothing of a guest's console, except when debug messages are asked for")
  func console() async throws {
    let world = try HostFixture()
    let log = CollectedLog()
    world.console.withLock { $0 = Self.secret }
    for level in [Logger.Level.info, .debug] {
      let agent = try await world.agent(
        observer: StepObserver { if $0 == .beforeMaking(.commit) { throw Injected() } }, logger: log.logger(level))
      await #expect(throws: MartletError.self) { try await agent.createSandbox(spec()) }
      #expect(log.lines.contains { $0.text.contains("creation failed") })
      #expect(log.lines.allSatisfy { $0.level <= .debug || !$0.text.contains(Self.secret) })
      #expect(log.lines.contains { $0.text.contains(Self.secret) } == (level == .debug))
    }
  }

  @Test("The text of a guest's kernel panic is in the sandbox's reason, not in the operator's log")
  func panic() async throws {
    let world = try HostFixture()
    let log = CollectedLog()
    let agent = try await world.agent(logger: log.logger(.trace))
    let spec = spec()
    _ = try await agent.createSandbox(spec)
    world.allMachines.first?.end("the guest's kernel panicked", guestText: Self.secret)
    try await eventually { try await agent.sandbox(spec.id).status == .error }
    #expect(try await agent.sandbox(spec.id).reason == "the guest's kernel panicked: \(Self.secret)")
    #expect(log.lines.contains { $0.text.contains("the guest's kernel panicked") })
    #expect(log.lines.allSatisfy { !$0.text.contains(Self.secret) })
  }
}

/// Stops the agent at one moment for as long as it is armed, and may start something there.
private final class Hold: Sendable {
  let moment: StepObserver.Moment
  let isArmed = Flag()
  let isReached = Flag()
  /// Whether the agent waits for what was started.
  let waitsForTask = Flag()
  let onReached = Mutex<(@Sendable () -> Task<Void, any Error>)?>(nil)
  let started = Mutex<Task<Void, any Error>?>(nil)

  init(at moment: StepObserver.Moment) { self.moment = moment }

  var observer: StepObserver {
    StepObserver { now in
      guard now == self.moment else { return }
      self.isReached.set(true)
      if let task = self.onReached.withLock({ $0 })?() {
        self.started.withLock { $0 = task }
        if self.waitsForTask.isOn { try await task.value }
      }
      while self.isArmed.isOn { try await Task.sleep(for: .milliseconds(2)) }
    }
  }
}
