import Disks
import Foundation
import HostInterface
import Hypervisor
import LinuxSystem
import Logging
import Model
import NIOCore
import SandboxNetwork
import Synchronization
import SystemPackage

@testable import HostAgent
@testable import Images

/// What exists outside the agent: it outlives any number of agents, as the real host does.
final class SimulatedWorld: Sendable {
  struct Contents: Equatable {
    var disks: Set<String> = []
    var networks: Set<Int> = []
    var machines: Set<Int32> = []

    var isEmpty: Bool { self == Contents() }
  }

  struct Failure: Error {}

  private let contents = Mutex(Contents())
  private let machines = Mutex<[Int32: SimulatedMachine]>([:])
  private let nextPid = Mutex<Int32>(100)
  /// Networks that refuse to be removed this many times.
  let stubbornRemovals = Mutex(0)
  /// Whether guests answer.
  let guestsAnswer = Mutex(true)
  let directory: FilePath

  init() throws {
    directory = FilePath("/tmp/martlet-host-agent-\(UUID().uuidString)")
    try Directories.create(directory)
  }

  deinit {
    try? Directories.removeTree(directory)
  }

  var now: Contents { contents.withLock { $0 } }
  var sandboxDirectories: [String] { (try? Directories.names(in: directory.appending("sandboxes"))) ?? [] }
  var isEmpty: Bool { now.isEmpty && sandboxDirectories.isEmpty }

  func change(_ body: (inout Contents) -> Void) {
    contents.withLock { body(&$0) }
  }

  func makeMachine(for id: SandboxID) -> SimulatedMachine {
    let pid = nextPid.withLock { pid in
      pid += 1
      return pid
    }
    let machine = SimulatedMachine(pid: pid, id: id, world: self)
    machines.withLock { $0[pid] = machine }
    change { $0.machines.insert(pid) }
    return machine
  }

  func machine(_ pid: Int32) -> SimulatedMachine? {
    machines.withLock { $0[pid] }
  }

  func machines(of id: SandboxID) -> [SimulatedMachine] {
    machines.withLock { $0.values.filter { $0.id == id } }
  }

  func machineEnded(_ pid: Int32) {
    machines.withLock { $0[pid] = nil }
    change { $0.machines.remove(pid) }
  }

  /// A new agent on this world, as after a restart.
  func agent(observer: StepObserver = StepObserver()) async throws -> HostAgent {
    let configuration = HostConfiguration(
      hostID: HostID(), dataDirectory: directory, slots: 0..<8, firstUserID: 1_000_000, cgroupParent: "none", concurrentBoots: 4)
    let parts = HostParts(
      driver: SimulatedDriver(world: self), disks: SimulatedDisks(world: self), network: SimulatedNetwork(world: self),
      templates: SimulatedTemplates(), guests: SimulatedGuests(world: self), cgroups: nil)
    var logger = Logger(label: "test")
    logger.logLevel = .critical
    let agent = HostAgent(
      configuration: configuration, parts: parts, journal: try Journal(path: directory.appending("journal.db")), observer: observer,
      logger: logger)
    try await agent.recover()
    return agent
  }

  func journal() async throws -> [JournalEntry] {
    try await Journal(path: directory.appending("journal.db")).entries()
  }
}

final class SimulatedMachine: VirtualMachine {
  let identity: VMMIdentity
  let id: SandboxID
  private let world: SimulatedWorld
  private let exit = Mutex<(exit: VMMExit?, waiting: [CheckedContinuation<VMMExit, Never>])>((nil, []))

  init(pid: Int32, id: SandboxID, world: SimulatedWorld) {
    identity = VMMIdentity(pid: pid, startTimeTicks: UInt64(pid))
    self.id = id
    self.world = world
  }

  func waitForExit() async -> VMMExit {
    await withCheckedContinuation { continuation in
      let ended = exit.withLock { state in
        if state.exit == nil { state.waiting.append(continuation) }
        return state.exit
      }
      if let ended { continuation.resume(returning: ended) }
    }
  }

  func end(_ reason: String) {
    let waiting = exit.withLock { state in
      guard state.exit == nil else { return [CheckedContinuation<VMMExit, Never>]() }
      state.exit = VMMExit(reason: reason)
      defer { state.waiting = [] }
      return state.waiting
    }
    world.machineEnded(identity.pid)
    for continuation in waiting { continuation.resume(returning: VMMExit(reason: reason)) }
  }

  func status() async throws -> VMMStatus { .running }
  func drainConsole() async throws -> [UInt8] { [] }
  func kill() async { end("stopped") }
  func loadState(from file: FilePath) async throws {}
  func resume() async throws {}
  func stop() async throws {}
  func saveState(to file: FilePath) async throws {}
  func switchDisk(to disk: DiskAttachment) async throws {}
}

struct SimulatedDriver: HypervisorDriver {
  let world: SimulatedWorld
  var isolation: (vmm: String, accelerator: String) { ("simulated", "none") }
  var machine: MachineDescription {
    MachineDescription(vmm: "simulated", vmmVersion: "1", machine: "1", firmwareDigest: "", cpuModel: "", accelerator: "none")
  }

  func launch(_ configuration: VMConfiguration) async throws -> any VirtualMachine {
    world.makeMachine(for: SandboxID(configuration.id.uuid))
  }

  func adopt(_ identity: VMMIdentity, runDirectory: FilePath, cgroup: Cgroup?) async throws -> (any VirtualMachine)? {
    world.machine(identity.pid)
  }

  func findOrphans(of id: InstanceID) throws -> [VMMIdentity] {
    world.machines(of: SandboxID(id.uuid)).map(\.identity)
  }
}

struct SimulatedDisks: DiskBackend {
  let world: SimulatedWorld

  func create(id: SandboxID, base: DiskBase, sizeBytes: Int64, directory: FilePath, ownerUID: UInt32) async throws(MartletError) -> Disk {
    let path = directory.appending("root")
    world.change { $0.disks.insert(path.string) }
    return Disk(path: path, format: .raw, sizeBytes: sizeBytes, base: base)
  }

  func remove(_ disk: Disk) async throws(MartletError) {
    world.change { $0.disks.remove(disk.path.string) }
  }

  func freeze(_ disk: Disk, as layer: FilePath) async throws(MartletError) -> DiskBase { disk.base }
  func flatten(_ disk: Disk, to image: FilePath) async throws(MartletError) -> Int64 { 0 }
  func allocatedBytes(of disk: Disk) throws(MartletError) -> Int64 { 0 }
}

struct SimulatedNetwork: NetworkBackend {
  let world: SimulatedWorld

  func create(slot: Int, policy: NetworkPolicy, ownerUID: UInt32) async throws -> NetworkHandle {
    guard !world.now.networks.contains(slot) else { throw SimulatedWorld.Failure() }
    world.change { $0.networks.insert(slot) }
    return NetworkHandle(slot: slot, namespacePath: "/run/netns/none", hostAddress: IPv4Address(UInt32(slot)), tapName: "tap0")
  }

  func remove(slot: Int) async throws {
    let refuses = world.stubbornRemovals.withLock { left in
      defer { left = max(0, left - 1) }
      return left > 0
    }
    if refuses { throw SimulatedWorld.Failure() }
    world.change { $0.networks.remove(slot) }
  }

  func existingSlots() async throws -> [Int] { world.now.networks.sorted() }
}

struct SimulatedTemplates: TemplateSource {
  func template(_ name: SafeName, team: TeamID) throws -> TemplateImage {
    guard name == .minimal else { throw MartletError(.notFound, "template \(name) does not exist") }
    let digest = ImageDigest(bytes: [UInt8](repeating: 7, count: 32))
    return TemplateImage(
      manifest: TemplateManifest(
        name: name, team: .platform, digest: digest, imageSizeBytes: 1, allocatedBytes: 1, defaultUser: "root", defaultWorkdir: "/root",
        envs: ["FROM_TEMPLATE": "1"], createdAt: Date(), agentDigest: digest),
      path: "/images/none.ext4")
  }

  func templates(team: TeamID?) throws -> [TemplateImage] { [try template(.minimal, team: .platform)] }

  func guestKernel() throws -> GuestKernel { GuestKernel(vmlinux: "/k", initramfs: "/i", version: "0") }
}

struct SimulatedGuests: GuestConnector {
  let world: SimulatedWorld

  func guest(at address: IPv4Address, accessToken: String?, id: SandboxID) -> any Guest {
    SimulatedGuest(world: world, token: accessToken)
  }
}

struct SimulatedGuest: Guest {
  struct Unused: Error {}

  let world: SimulatedWorld
  let token: String?

  func waitUntilHealthy() async throws {
    while !world.guestsAnswer.withLock({ $0 }) { try await Task.sleep(for: .milliseconds(5)) }
  }

  func initialize(_ identity: GuestIdentity) async throws {}
  func start(_ request: ProcessRequest) async throws -> any ProcessSession { throw Unused() }
  func attach(_ selector: ProcessSelector) async throws -> any ProcessSession { throw Unused() }
  func listProcesses() async throws -> [GuestProcess] { [] }
  func signal(_ selector: ProcessSelector, signal: Int32) async throws {}
  func writeFile(_ path: String, user: String?, body: ByteStream) async throws {}
  func readFile(_ path: String, user: String?) async throws -> FileDownload { throw Unused() }
  func listDirectory(_ path: String, depth: Int, user: String?) async throws -> [FileEntry] { [] }
  func fileStatus(_ path: String, user: String?) async throws -> FileEntry { throw Unused() }
  func makeDirectory(_ path: String, user: String?) async throws -> FileEntry { throw Unused() }
  func renameFile(from source: String, to destination: String, user: String?) async throws -> FileEntry { throw Unused() }
  func removeFile(_ path: String, user: String?) async throws {}
  func metrics() async throws -> GuestMetrics { throw Unused() }
}
