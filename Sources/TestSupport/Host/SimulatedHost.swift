package import Foundation
package import HostAPI
package import Model
package import NIOCore

/// A host without VMs: sandboxes, snapshots, processes and files in memory, and faults on demand.
///
/// It fulfils the contract of `HostClient`: one change at a time per sandbox, destroy takes precedence, a failed pause
/// or resume leaves the sandbox unchanged. Every instance owns a slot, so that tests can count slots that are taken and
/// released.
package actor SimulatedHost: HostClient {
  package enum Operation: Hashable, Sendable, CaseIterable {
    case create, destroy, list, look, start, write, read, templates, ping, pause, resume, timeout, fork, snapshot,
      deleteSnapshot, quarantine
  }

  package struct SnapshotKey: Hashable, Sendable {
    package var team: TeamID
    package var name: SafeName

    package init(_ name: SafeName, _ team: TeamID) {
      self.team = team
      self.name = name
    }
  }

  package struct QuarantinedSnapshot: Sendable {
    package var template: HostTemplate
    package var files: Files
    package var quarantinedAt: Date
  }

  package typealias Files = [String: ByteBuffer]

  package nonisolated let hostID: HostID
  package var sandboxes: [SandboxID: HostSandbox] = [:]
  package var processes: [SandboxID: [SimulatedProcess]] = [:]
  /// The files of running sandboxes, which stand for their memory and disk.
  package var files: [SandboxID: Files] = [:]
  package var templates: [HostTemplate]
  package var snapshots: [SnapshotKey: (template: HostTemplate, files: Files)] = [:]
  /// What pauses saved: the generation before the last one, and the last one.
  package var generations: [SandboxID: [Files]] = [:]
  /// The installation that it obeys.
  package var installation: InstallationID?
  /// Specifications as they were created; what the journal of a real host has.
  package var specs: [SandboxID: SandboxSpec] = [:]
  package var quarantinedSandboxes: [SandboxID: Date] = [:]
  package var quarantinedSnapshots: [GenerationID: QuarantinedSnapshot] = [:]
  package var timeouts: [SandboxID: Int] = [:]
  /// Sandboxes that `listSandboxes` omits; `sandbox(_:)` still returns them.
  package var unlisted: Set<SandboxID> = []
  package internal(set) var slots = SimulatedSlots()
  /// The number of uploads whose body ended with an error.
  package var brokenUploads = 0
  package var destroyCalls = 0
  package internal(set) var calls: [Operation: Int] = [:]
  /// Whether a pause that fails loses the instance.
  package var losesInstances = false
  /// Errors of the copies of a fork, by position.
  package var forkFaults: [Int: MartletError] = [:]
  private var faults: [Operation: MartletError] = [:]
  private var lostResponses: [Operation: MartletError] = [:]
  private var delays: [Operation: Duration] = [:]
  private var shuffle: SeededGenerator?
  /// Snapshots made so far; each has a moment of its own.
  var snapshotCount = 0
  private var changing: [SandboxID: [CheckedContinuation<Void, Never>]] = [:]
  var readFault: (after: Int, announced: Int64?)?
  var nextPID: UInt32 = 100

  package init(hostID: HostID = HostID()) {
    self.hostID = hostID
    let created = Date(timeIntervalSince1970: 1_700_000_000)
    templates = [SafeName.minimal, .base].map {
      HostTemplate(name: $0, teamID: .platform, sizeBytes: 1 << 20, createdAt: created)
    }
  }

  // MARK: - Faults

  /// Makes an operation fail with `error`; nil makes it succeed again.
  package func fail(_ operation: Operation, with error: MartletError?) { faults[operation] = error }
  /// Makes an operation succeed and its response get lost: the caller gets `error`.
  package func loseResponse(of operation: Operation, with error: MartletError?) { lostResponses[operation] = error }
  package func delay(_ operation: Operation, by duration: Duration?) { delays[operation] = duration }
  package func belong(to installation: InstallationID?) { self.installation = installation }
  package func failFork(at index: Int, with error: MartletError?) { forkFaults[index] = error }
  package func loseInstances(_ loses: Bool) { losesInstances = loses }
  package func unlist(_ id: SandboxID) { unlisted.insert(id) }
  /// Makes concurrent operations take turns in an order that is determined by the seed.
  package func shuffle(seed: UInt64) { shuffle = SeededGenerator(seed: seed) }
  /// Makes downloads fail after `bytes` bytes.
  package func breakReads(after bytes: Int, announcing size: Int64?) { readFault = (bytes, size) }

  func gate(_ operation: Operation) async throws {
    calls[operation, default: 0] += 1
    if let delay = delays[operation] { try await Task.sleep(for: delay) }
    await yield()
    if let fault = faults[operation] { throw fault }
  }

  func throwIfResponseIsLost(_ operation: Operation) throws {
    if let error = lostResponses[operation] { throw error }
  }

  func yield() async {
    for _ in 0..<Int((shuffle?.next() ?? 0) % 8) { await Task.yield() }
  }

  // MARK: - One change at a time

  /// Waits for the change in progress, and begins one.
  func begin(_ id: SandboxID) async {
    while changing[id] != nil {
      await withCheckedContinuation { changing[id, default: []].append($0) }
    }
    changing[id] = []
  }

  func end(_ id: SandboxID) {
    for waiter in changing.removeValue(forKey: id) ?? [] { waiter.resume() }
  }
}

/// The slots of instances: each is taken and released once.
package struct SimulatedSlots: Sendable {
  package private(set) var taken: [SandboxID: Int] = [:]
  package private(set) var doubleReleases = 0
  private var next = 0

  mutating func take(_ id: SandboxID) {
    guard taken[id] == nil else { return }
    taken[id] = next
    next += 1
  }

  mutating func release(_ id: SandboxID) {
    if taken.removeValue(forKey: id) == nil { doubleReleases += 1 }
  }
}

/// The SplitMix64 generator. Source: https://prng.di.unimi.it/splitmix64.c
package struct SeededGenerator: RandomNumberGenerator, Sendable {
  private var state: UInt64

  package init(seed: UInt64) {
    state = seed
  }

  package mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var mixed = state
    mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
    mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
    return mixed ^ (mixed >> 31)
  }
}
