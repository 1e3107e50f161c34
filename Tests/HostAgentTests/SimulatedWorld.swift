import Concurrency
import Disks
import Foundation
import Glibc
import Hypervisor
import LinuxSystem
import Logging
import Model
import Pager
import Snapshots
import SystemPackage

@testable import HostAgent

/// What exists outside the agent: it outlives any number of agents, as the real host does.
///
/// A guest is a number that counts up. It is in its memory, in its devices and on its disk, so that a snapshot whose
/// parts are of different moments, or of another sandbox, is noticed at the restore.
final class SimulatedWorld: Sendable {
  struct Contents: Equatable {
    var networks: Set<Int> = []
    var machines: Set<Int32> = []
    var pagers: Set<Int32> = []
    /// What the agent needs of the host for any sandbox at all.
    var isHostReady = false

    /// Nothing of any sandbox is there.
    var isEmpty: Bool { networks.isEmpty && machines.isEmpty && pagers.isEmpty }
  }

  struct Failure: Error {}

  private let contents = Mutex(Contents())
  private let machines = Mutex<[Int32: SimulatedMachine]>([:])
  private let pagers = Mutex<[Int32: SimulatedPager]>([:])
  private let nextPid = Mutex<Int32>(100)
  /// How many agents there were. Only the last is alive: what another still does reaches nothing.
  private let agents = Mutex(0)
  /// Whether a guest that is restored gets no further than its first page.
  let firstPageIsDamaged = Flag()
  /// Networks that refuse to be removed this many times.
  let stubbornRemovals = Mutex(0)
  /// Whether guests answer.
  let guestsAnswer = Mutex(true)
  let directory: FilePath

  init() throws {
    directory = Self.parent.appending(UUID().uuidString)
    try Directories.create(directory)
  }

  /// Of all worlds of this process. Worlds whose agents hang for ever outlive their tests, and go with it at the
  /// process's end.
  private static let parent: FilePath = {
    // In memory where possible: thousands of generations are synchronized.
    let place = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp"
    atexit { try? Directories.removeTree(SimulatedWorld.parent) }
    return FilePath("\(place)/martlet-host-agent-\(getpid())")
  }()

  deinit {
    try? Directories.removeTree(directory)
  }

  var now: Contents { contents.withLock { $0 } }
  var instanceDirectories: [String] { (try? Directories.names(in: directory.appending("instances"))) ?? [] }
  var isEmpty: Bool { now.isEmpty && instanceDirectories.isEmpty }
  var diskLayers: [String] { (try? Directories.names(in: store.diskLayersDirectory)) ?? [] }

  func change(_ body: (inout Contents) -> Void) {
    contents.withLock { body(&$0) }
  }

  func pid() -> Int32 {
    nextPid.withLock { pid in
      pid += 1
      return pid
    }
  }

  // MARK: Machines and pagers

  var allMachines: [SimulatedMachine] { machines.withLock { Array($0.values) } }

  /// Does what only a living agent can do.
  /// - Parameter agent: the number of the one that does it.
  func act<Result>(_ agent: Int, _ body: () throws -> Result) throws -> Result {
    try agents.withLock { latest in
      guard latest == agent else { throw Failure() }
      return try body()
    }
  }

  func add(_ machine: SimulatedMachine) {
    machines.withLock { $0[machine.identity.pid] = machine }
    change { $0.machines.insert(machine.identity.pid) }
  }

  func machine(_ pid: Int32) -> SimulatedMachine? { machines.withLock { $0[pid] } }

  func machine(slot: Int) -> SimulatedMachine? { machines.withLock { $0.values.first { $0.slot == slot } } }

  func machineEnded(_ pid: Int32) {
    machines.withLock { $0[pid] = nil }
    change { $0.machines.remove(pid) }
  }

  func add(_ pager: SimulatedPager) {
    pagers.withLock { $0[pager.identity.pid] = pager }
    change { $0.pagers.insert(pager.identity.pid) }
  }

  var allPagers: [SimulatedPager] { pagers.withLock { Array($0.values) } }

  func pager(_ pid: Int32) -> SimulatedPager? { pagers.withLock { $0[pid] } }

  func pager(in directory: FilePath) -> SimulatedPager? {
    pagers.withLock { $0.values.first { $0.configuration.runDirectory == directory } }
  }

  func pagerEnded(_ pid: Int32) {
    pagers.withLock { $0[pid] = nil }
    change { $0.pagers.remove(pid) }
  }

  // MARK: Agents

  var store: SnapshotStore {
    SnapshotStore(directory: directory.appending("snapshots"), logger: Self.logger)
  }

  static var logger: Logger {
    var logger = Logger(label: "test")
    logger.logLevel = ProcessInfo.processInfo.environment["TEST_LOG"] == nil ? .critical : .debug
    return logger
  }

  /// A new agent on this world, as after a restart.
  func agent(
    observer: StepObserver = StepObserver(), slots: Int = 8, longestChain: Int = 8, warmPool: Int = 0
  ) async throws -> HostAgent {
    var configuration = HostConfiguration(
      hostID: HostID(), dataDirectory: directory, slots: 0..<slots, firstUserID: 1_000_000, cgroupParent: "none",
      concurrentBoots: 4)
    configuration.longestChain = longestChain
    configuration.warmPoolSize = warmPool
    let number = agents.withLock { latest in
      latest += 1
      return latest
    }
    let parts = HostParts(
      driver: SimulatedDriver(world: self, agent: number), disks: SimulatedDisks(),
      network: SimulatedNetwork(world: self, agent: number),
      templates: SimulatedTemplates(), guests: SimulatedGuests(world: self),
      memory: SimulatedMemory(world: self, agent: number, store: store),
      snapshots: store, cgroups: nil)
    let agent = HostAgent(
      configuration: configuration, parts: parts, journal: try Journal(path: directory.appending("journal.db")),
      observer: observer,
      logger: Self.logger)
    try await agent.recover()
    return agent
  }

  func journal() throws -> Journal { try Journal(path: directory.appending("journal.db")) }

  var journalIsEmpty: Bool {
    get async throws {
      let journal = try journal()
      let isEmpty = try await journal.sandboxes().isEmpty
      return try await journal.instances().isEmpty && isEmpty
    }
  }
}
