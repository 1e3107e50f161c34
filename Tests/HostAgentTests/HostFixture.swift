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

/// The state outside the host agent: it outlives any number of host agents, like a real host.
///
/// A guest is a counter. It is stored in memory, devices and disk, so that a restore detects a snapshot whose parts are
/// from different moments or sandboxes.
final class HostFixture: Sendable {
  struct Contents: Equatable {
    var networks: Set<Int> = []
    var machines: Set<Int32> = []
    var pagers: Set<Int32> = []
    /// Resources for the host as a whole.
    var isHostReady = false

    /// Whether no resource of any sandbox exists.
    var isEmpty: Bool { networks.isEmpty && machines.isEmpty && pagers.isEmpty }
  }

  struct Failure: Error {}

  private let contents = Mutex(Contents())
  private let machines = Mutex<[Int32: SimulatedMachine]>([:])
  private let pagers = Mutex<[Int32: SimulatedPager]>([:])
  private let nextPid = Mutex<Int32>(100)
  /// Number of host agents so far. Only the last one is alive: calls of earlier ones have no effect.
  private let agents = Mutex(0)
  /// Whether a restored guest fails at its first page.
  let firstPageIsDamaged = Flag()
  /// Number of removals of a network that fail before one succeeds.
  let stubbornRemovals = Mutex(0)
  /// What guests have printed on their consoles.
  let console = Mutex("")
  /// Whether VMMs do not end when they are killed, as in uninterruptible sleep.
  let machinesHang = Flag()
  /// How often the agent may still look for a process before it has no descriptor left.
  let processLookUps = Mutex(Int.max)
  /// Whether guests respond.
  let guestsRespond = Mutex(true)
  let directory: FilePath

  init() throws {
    directory = Self.parent.appending(UUID().uuidString)
    try Directories.create(directory)
  }

  /// Shared parent of all fixtures of this process. Fixtures whose host agents hang for ever outlive their tests and
  /// are removed at the end of the process.
  private static let parent: FilePath = {
    // In memory if possible, because thousands of generations are synchronized.
    let place = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp"
    atexit { try? Directories.removeTree(HostFixture.parent) }
    return FilePath("\(place)/martlet-host-agent-\(getpid())")
  }()

  deinit {
    try? Directories.removeTree(directory)
  }

  var now: Contents { contents.withLock { $0 } }
  var instanceDirectories: [String] { (try? Directories.names(in: directory.appending("instances"))) ?? [] }
  var isEmpty: Bool { now.isEmpty && instanceDirectories.isEmpty }

  func change(_ body: (inout Contents) -> Void) {
    contents.withLock { body(&$0) }
  }

  func pid() -> Int32 {
    nextPid.withLock { pid in
      pid += 1
      return pid
    }
  }

  /// - Throws: EMFILE when the agent has no descriptor left.
  func lookUpProcess() throws {
    try processLookUps.withLock { left in
      guard left > 0 else { throw SystemError("pidfd_open", .tooManyOpenFiles) }
      if left != .max { left -= 1 }
    }
  }

  // MARK: Machines and pagers

  var allMachines: [SimulatedMachine] { machines.withLock { Array($0.values) } }

  /// Performs an action that only the living host agent can perform.
  /// - Parameter agent: number of the acting host agent.
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

  /// Makes a new host agent on this host, as after a restart.
  func agent(
    observer: StepObserver = StepObserver(), slots: Int = 8, longestChain: Int = 8, warmPool: Int = 0,
    logger: Logger = HostFixture.logger, configure: (inout HostConfiguration) -> Void = { _ in }
  ) async throws -> HostAgent {
    var configuration = HostConfiguration(
      hostID: HostID(), dataDirectory: directory, slots: 0..<slots, firstUserID: 1_000_000, cgroupParent: "none",
      concurrentBoots: 4)
    configuration.longestChain = longestChain
    configuration.warmPoolSize = warmPool
    configure(&configuration)
    let number = agents.withLock { latest in
      latest += 1
      return latest
    }
    let parts = HostParts(
      driver: SimulatedDriver(host: self, agent: number), disks: SimulatedDisks(),
      network: SimulatedNetwork(host: self, agent: number),
      templates: SimulatedTemplates(), guests: SimulatedGuests(host: self),
      memory: SimulatedMemory(host: self, agent: number, store: store),
      snapshots: store, cgroups: nil)
    let agent = HostAgent(
      configuration: configuration, parts: parts, journal: try Journal(path: directory.appending("journal.db")),
      observer: observer,
      logger: logger)
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
