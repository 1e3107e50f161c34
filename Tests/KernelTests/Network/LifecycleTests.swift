import LinuxSystem
import Model
import SandboxNetwork
import SystemPackage
import Testing

/// Needs root. Serialized: the tests count what is left.
@Suite("Networks in the kernel", .serialized, .timeLimit(.minutes(5)))
enum KernelNetworkTests {
  @Suite("Create and remove")
  struct LifecycleTests {
    @Test("create and remove leave nothing behind")
    func leavesNothing() async throws {
      try await NetworkFixture.with { fixture in
        try await fixture.networks.prepareHost()
        let before = try await fixture.census()
        let handle = try await fixture.networks.create(slot: 4_000, policy: NetworkPolicy(), ownerUID: 4_242)
        #expect(try await fixture.networks.existingSlots() == [4_000])
        let tap = try await fixture.run("ip", ["-details", "link", "show", "tap0"], in: handle.namespacePath.string)
          .outputText
        #expect(tap.contains("vnet_hdr on persist on user 4242") && tap.contains(GuestContract.gatewayMAC))
        let inet6 = try await fixture.run("ip", ["-6", "addr"], in: handle.namespacePath.string).outputText
        #expect(inet6.isEmpty)
        try await fixture.networks.remove(slot: 4_000)
        #expect(try await fixture.census() == before)
        try await fixture.networks.remove(slot: 4_000)
      }
    }

    @Test("twenty networks are made and removed concurrently, and nothing is left")
    func twentyAtOnce() async throws {
      try await NetworkFixture.with { fixture in
        try await fixture.networks.prepareHost()
        let before = try await fixture.census()
        let clock = ContinuousClock()
        let creation = try await clock.measure {
          try await withThrowingTaskGroup(of: NetworkHandle.self) { group in
            for slot in 4_000..<4_020 {
              group.addTask {
                try await fixture.networks.create(slot: slot, policy: NetworkPolicy(), ownerUID: 4_242)
              }
            }
            let addresses = try await group.reduce(into: Set<IPv4Address>()) { $0.insert($1.hostAddress) }
            #expect(addresses.count == 20)
          }
        }
        #expect(try await fixture.networks.existingSlots() == Array(4_000..<4_020))
        let removal = try await clock.measure {
          try await withThrowingTaskGroup(of: Void.self) { group in
            for slot in 4_000..<4_020 { group.addTask { try await fixture.networks.remove(slot: slot) } }
            try await group.waitForAll()
          }
        }
        #expect(try await fixture.census() == before)
        print("20 networks: made in \(creation), removed in \(removal)")
      }
    }

    @Test(
      "a failure after any step leaves the kernel unchanged",
      arguments: [
        NetworkStep.createLinks, .configureKernel, .loadRules, .configureInside,
      ], [FaultyRunner.Moment.before, .halfWay, .after])
    func rollback(step: NetworkStep, moment: FaultyRunner.Moment) async throws {
      try await NetworkFixture.with(runner: { FaultyRunner($0, step: step, moment: moment) }) { fixture in
        try await fixture.networks.prepareHost()
        let before = try await fixture.census()
        let error = await #expect(throws: NetworkError.self) {
          try await fixture.networks.create(slot: 4_000, policy: NetworkPolicy(), ownerUID: 1)
        }
        #expect(error?.undoFailures.isEmpty == true)
        #expect(try await fixture.census() == before)
      }
    }

    @Test("a cancelled create leaves nothing behind")
    func cancellation() async throws {
      try await NetworkFixture.with { fixture in
        try await fixture.networks.prepareHost()
        let before = try await fixture.census()
        for delay in [0, 1, 3, 5, 8, 12, 20] {
          let creation = Task {
            try await fixture.networks.create(slot: 4_000, policy: NetworkPolicy(), ownerUID: 1)
          }
          try await Task.sleep(for: .milliseconds(delay))
          creation.cancel()
          if (try? await creation.value) != nil { try await fixture.networks.remove(slot: 4_000) }
          #expect(try await fixture.census() == before)
        }
      }
    }

    @Test("an incomplete network, and one whose socket still retransmits, are removed")
    func halves() async throws {
      try await NetworkFixture.with { fixture in
        try await fixture.networks.prepareHost()
        let before = try await fixture.census()
        let handle = try await fixture.networks.create(slot: 4_000, policy: NetworkPolicy(), ownerUID: 1)
        try await fixture.run("ip", ["netns", "del", String(handle.namespacePath.lastComponent?.string ?? "")])
        try await fixture.networks.remove(slot: 4_000)
        #expect(try await fixture.census() == before)
        _ = try await fixture.networks.create(slot: 4_000, policy: NetworkPolicy(), ownerUID: 1)
        try await fixture.run("ip", ["link", "del", "mv4000"], in: fixture.host)
        #expect(try await fixture.networks.existingSlots() == [4_000])
        try await fixture.networks.remove(slot: 4_000)
        #expect(try await fixture.census() == before)
      }
    }

    @Test("an existing slot is refused and keeps working")
    func existing() async throws {
      try await NetworkFixture.with { fixture in
        try await fixture.networks.prepareHost()
        let handle = try await fixture.addSandbox(4_000)
        await #expect(throws: NetworkError.self) {
          try await fixture.networks.create(slot: 4_000, policy: NetworkPolicy(), ownerUID: 1)
        }
        let probes = try await fixture.probe(
          ["tcp:\(handle.hostAddress):\(GuestContract.agentPort)"], from: fixture.host)
        #expect(probes.allSatisfy { $0.outcome == "responded" }, "\(probes)")
      }
    }
  }
}
