import Concurrency
import LinuxSystem
import Logging
import Model
import SandboxNetwork
import SystemPackage
import Testing

@Suite("Create and remove, step by step")
struct CreateTests {
  private func networks(_ runner: ScriptedRunner) throws -> SandboxNetworks {
    var configuration = try NetworkConfiguration.standard()
    configuration.upstreamResolver = IPv4Address("9.9.9.9")
    return SandboxNetworks(
      configuration: configuration, runner: runner, logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
  }

  @Test("create takes three commands and returns the guest's address")
  func create() async throws {
    let runner = ScriptedRunner()
    let handle = try await networks(runner).create(slot: 1, policy: NetworkPolicy(), ownerUID: 4_242)
    #expect(handle.namespacePath == "/run/netns/mrt-1")
    #expect(handle.hostAddress.description == "10.200.0.6")
    #expect(handle.tapName == "tap0")
    #expect(runner.commands.map(\.step) == [.createLinks, .loadRules, .configureInside])
    #expect(runner.input(of: .configureInside)?.contains("mode tap user 4242 vnet_hdr") == true)
    #expect(runner.commands[1].namespacePath == "/run/netns/mrt-1")
  }

  @Test(
    "a failure at any step undoes all earlier steps",
    arguments: [
      .fail(.createLinks), .fail(.createLinks, afterLines: 1), .fail(.createLinks, afterLines: 2),
      .fail(.createLinks, afterLines: 4),
      .hang(.createLinks), .hang(.createLinks, afterLines: 1), .hang(.createLinks, afterLines: 5),
      .fail(.configureKernel),
      .fail(.loadRules),
      .hang(.loadRules), .fail(.configureInside), .fail(.configureInside, afterLines: 5),
      .hang(.configureInside, afterLines: 9),
    ] as [ScriptedRunner.Fault])
  func rollback(fault: ScriptedRunner.Fault) async throws {
    let runner = ScriptedRunner(faults: [fault])
    let networks = try networks(runner)
    let error = await #expect(throws: NetworkError.self) {
      try await networks.create(slot: 7, policy: NetworkPolicy(), ownerUID: 1)
    }
    guard case .failed(fault.step, _) = error?.reason else {
      Issue.record("unexpected reason: \(String(describing: error))")
      return
    }
    #expect(error?.undoFailures.isEmpty == true)
    #expect(runner.isEmpty)
    runner.state.withLock { $0.faults = [] }
    _ = try await networks.create(slot: 7, policy: NetworkPolicy(), ownerUID: 1)
  }

  @Test("undo continues after a failed undo step and reports what is left")
  func undoFailures() async throws {
    let runner = ScriptedRunner(faults: [.fail(.loadRules), .fail(.removeLink)])
    let networks = try networks(runner)
    let error = await #expect(throws: NetworkError.self) {
      try await networks.create(slot: 7, policy: NetworkPolicy(), ownerUID: 1)
    }
    #expect(error?.undoFailures.count == 1)
    #expect(runner.state.withLock { $0.namespaces.isEmpty })
    #expect(runner.state.withLock { $0.links } == ["mv7"])
  }

  @Test("a slot whose namespace exists is not changed")
  func existing() async throws {
    let runner = ScriptedRunner()
    runner.state.withLock { $0.namespaces = ["mrt-3"] }
    let error = await #expect(throws: NetworkError.self) {
      try await networks(runner).create(slot: 3, policy: NetworkPolicy(), ownerUID: 1)
    }
    guard case .slotExists = error?.reason else {
      Issue.record("unexpected reason: \(String(describing: error))")
      return
    }
    #expect(runner.commands.isEmpty)
    #expect(runner.state.withLock { $0.namespaces } == ["mrt-3"])
  }

  @Test("an existing link of the slot survives the failure that it causes")
  func foreignLink() async throws {
    let runner = ScriptedRunner()
    runner.state.withLock { $0.links = ["mv3"] }
    await #expect(throws: NetworkError.self) {
      try await networks(runner).create(slot: 3, policy: NetworkPolicy(), ownerUID: 1)
    }
    #expect(runner.state.withLock { $0.namespaces.isEmpty })
    #expect(runner.state.withLock { $0.links } == ["mv3"])
  }

  @Test("an invalid slot or policy fails before anything is made")
  func badInput() async throws {
    let runner = ScriptedRunner()
    let networks = try networks(runner)
    await #expect(throws: NetworkError.self) {
      try await networks.create(slot: -1, policy: NetworkPolicy(), ownerUID: 1)
    }
    await #expect(throws: NetworkError.self) {
      try await networks.create(slot: 1, policy: NetworkPolicy(allow: ["x"]), ownerUID: 1)
    }
    await #expect(throws: NetworkError.self) { try await networks.remove(slot: 1 << 20) }
    #expect(runner.commands.isEmpty)
  }

  @Test("remove leaves nothing, and a second remove succeeds")
  func remove() async throws {
    let runner = ScriptedRunner()
    let networks = try networks(runner)
    _ = try await networks.create(slot: 2, policy: NetworkPolicy(), ownerUID: 1)
    try await networks.remove(slot: 2)
    #expect(runner.isEmpty)
    try await networks.remove(slot: 2)
  }

  @Test(
    "remove completes on an incomplete network", arguments: [(["mrt-2"], []), ([], ["mv2"])] as [([String], [String])])
  func removeHalf(namespaces: [String], links: [String]) async throws {
    let runner = ScriptedRunner()
    runner.state.withLock {
      $0.namespaces = Set(namespaces)
      $0.links = Set(links)
    }
    try await networks(runner).remove(slot: 2)
    #expect(runner.isEmpty)
  }

  @Test("remove tries every step and reports every failure")
  func removeFailures() async throws {
    let runner = ScriptedRunner(faults: [.fail(.removeLink), .fail(.removeNamespace)])
    runner.state.withLock {
      $0.namespaces = ["mrt-2"]
      $0.links = ["mv2"]
    }
    let error = await #expect(throws: NetworkError.self) { try await networks(runner).remove(slot: 2) }
    guard case .several(let errors) = error?.reason else {
      Issue.record("unexpected reason: \(String(describing: error))")
      return
    }
    #expect(errors.count == 2)
  }

  @Test("two operations on one slot do not run at the same time")
  func busy() async throws {
    let (reached, signalReached) = AsyncStream<Void>.makeStream()
    let (go, signalGo) = AsyncStream<Void>.makeStream()
    let runner = ScriptedRunner { command in
      guard command.step == .loadRules else { return }
      signalReached.yield()
      for await _ in go { return }
    }
    let networks = try networks(runner)
    let creation = Task { try await networks.create(slot: 5, policy: NetworkPolicy(), ownerUID: 1) }
    for await _ in reached { break }
    let error = await #expect(throws: NetworkError.self) { try await networks.remove(slot: 5) }
    guard case .slotBusy = error?.reason else {
      Issue.record("unexpected reason: \(String(describing: error))")
      return
    }
    signalGo.yield()
    _ = try await creation.value
    try await networks.remove(slot: 5)
  }

  @Test("leftovers of a dead host agent are found by our names only")
  func existingSlots() async throws {
    let runner = ScriptedRunner()
    runner.state.withLock {
      $0.namespaces = ["mrt-3", "mrt-03", "blue", "cni-1234", "mrt-x"]
      $0.links = ["mv9", "mv3", "mvlan0"]
    }
    #expect(try await networks(runner).existingSlots() == [3, 9])
  }

  @Test("preparing the host loads the rules before enabling forwarding, and removes them if that fails")
  func prepareHost() async throws {
    let runner = ScriptedRunner()
    try await networks(runner).prepareHost()
    #expect(runner.commands.map(\.step) == [.loadHostRules])
    #expect(runner.state.withLock { $0.parameters[""] } == [KernelParameter("ipv4/ip_forward", "1")])

    let failing = ScriptedRunner(faults: [.fail(.enableForwarding)])
    await #expect(throws: NetworkError.self) { try await networks(failing).prepareHost() }
    #expect(failing.commands.map(\.step) == [.loadHostRules, .removeHostRules])
  }
}
