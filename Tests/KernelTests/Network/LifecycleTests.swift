import LinuxSystem
import Model
import SandboxNetwork
import SystemPackage
import Testing

/// Needs root. One at a time: the tests count what is left.
@Suite("Networks in the kernel", .serialized, .timeLimit(.minutes(5)))
enum KernelNetworkTests {
  @Suite("Create and remove")
  struct LifecycleTests {
    @Test("Create and remove leave nothing behind")
    func leavesNothing() async throws {
      try await Laboratory.with { laboratory in
        try await laboratory.networks.prepareHost()
        let before = try await laboratory.census()
        let handle = try await laboratory.networks.create(slot: 4_000, policy: NetworkPolicy(), ownerUID: 4_242)
        #expect(try await laboratory.networks.existingSlots() == [4_000])
        let tap = try await laboratory.run("ip", ["-details", "link", "show", "tap0"], in: handle.namespacePath.string)
          .outputText
        #expect(tap.contains("vnet_hdr on persist on user 4242") && tap.contains(GuestContract.gatewayMAC))
        let inet6 = try await laboratory.run("ip", ["-6", "addr"], in: handle.namespacePath.string).outputText
        #expect(inet6.isEmpty)
        try await laboratory.networks.remove(slot: 4_000)
        #expect(try await laboratory.census() == before)
        try await laboratory.networks.remove(slot: 4_000)
      }
    }

    @Test("Twenty at once are made and removed, and nothing is left")
    func twentyAtOnce() async throws {
      try await Laboratory.with { laboratory in
        try await laboratory.networks.prepareHost()
        let before = try await laboratory.census()
        let clock = ContinuousClock()
        let creation = try await clock.measure {
          try await withThrowingTaskGroup(of: NetworkHandle.self) { group in
            for slot in 4_000..<4_020 {
              group.addTask {
                try await laboratory.networks.create(slot: slot, policy: NetworkPolicy(), ownerUID: 4_242)
              }
            }
            let addresses = try await group.reduce(into: Set<IPv4Address>()) { $0.insert($1.hostAddress) }
            #expect(addresses.count == 20)
          }
        }
        #expect(try await laboratory.networks.existingSlots() == Array(4_000..<4_020))
        let removal = try await clock.measure {
          try await withThrowingTaskGroup(of: Void.self) { group in
            for slot in 4_000..<4_020 { group.addTask { try await laboratory.networks.remove(slot: slot) } }
            try await group.waitForAll()
          }
        }
        #expect(try await laboratory.census() == before)
        print("20 networks: made in \(creation), removed in \(removal)")
      }
    }

    @Test(
      "A failure after any step leaves the kernel as before",
      arguments: [
        NetworkStep.createLinks, .configureKernel, .loadRules, .configureInside,
      ], [FaultyRunner.Moment.before, .halfWay, .after])
    func rollback(step: NetworkStep, moment: FaultyRunner.Moment) async throws {
      try await Laboratory.with(runner: { FaultyRunner($0, step: step, moment: moment) }) { laboratory in
        try await laboratory.networks.prepareHost()
        let before = try await laboratory.census()
        let error = await #expect(throws: NetworkError.self) {
          try await laboratory.networks.create(slot: 4_000, policy: NetworkPolicy(), ownerUID: 1)
        }
        #expect(error?.undoFailures.isEmpty == true)
        #expect(try await laboratory.census() == before)
      }
    }

    @Test("A cancelled create leaves nothing behind")
    func cancellation() async throws {
      try await Laboratory.with { laboratory in
        try await laboratory.networks.prepareHost()
        let before = try await laboratory.census()
        for delay in [0, 1, 3, 5, 8, 12, 20] {
          let creation = Task {
            try await laboratory.networks.create(slot: 4_000, policy: NetworkPolicy(), ownerUID: 1)
          }
          try await Task.sleep(for: .milliseconds(delay))
          creation.cancel()
          if (try? await creation.value) != nil { try await laboratory.networks.remove(slot: 4_000) }
          #expect(try await laboratory.census() == before)
        }
      }
    }

    @Test("Half of a network, and one whose socket still retransmits, are removed")
    func halves() async throws {
      try await Laboratory.with { laboratory in
        try await laboratory.networks.prepareHost()
        let before = try await laboratory.census()
        let handle = try await laboratory.networks.create(slot: 4_000, policy: NetworkPolicy(), ownerUID: 1)
        try await laboratory.run("ip", ["netns", "del", String(handle.namespacePath.lastComponent?.string ?? "")])
        try await laboratory.networks.remove(slot: 4_000)
        #expect(try await laboratory.census() == before)
        _ = try await laboratory.networks.create(slot: 4_000, policy: NetworkPolicy(), ownerUID: 1)
        try await laboratory.run("ip", ["link", "del", "mv4000"], in: laboratory.host)
        #expect(try await laboratory.networks.existingSlots() == [4_000])
        try await laboratory.networks.remove(slot: 4_000)
        #expect(try await laboratory.census() == before)
      }
    }

    @Test("A slot that exists is refused and keeps working")
    func existing() async throws {
      try await Laboratory.with { laboratory in
        try await laboratory.networks.prepareHost()
        let handle = try await laboratory.addSandbox(4_000)
        await #expect(throws: NetworkError.self) {
          try await laboratory.networks.create(slot: 4_000, policy: NetworkPolicy(), ownerUID: 1)
        }
        let probes = try await laboratory.probe(
          ["tcp:\(handle.hostAddress):\(GuestContract.agentPort)"], from: laboratory.host)
        #expect(probes.allSatisfy { $0.outcome == "answered" }, "\(probes)")
      }
    }
  }
}
