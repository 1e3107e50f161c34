import Concurrency
import Disks
import Foundation
import HostAPI
import Hypervisor
import LinuxSystem
import Model
import NIOCore
import SandboxNetwork
import SystemPackage

@testable import HostAgent
@testable import Images

/// A simulated guest, whose state is a counter.
final class SimulatedMachine: VirtualMachine {
  private struct State {
    var counter = 0
    var isLoaded: Bool
    var isStopped: Bool
    var isFrozen = false
    var disk: FilePath
    var hasEnded = false
  }

  let identity: VMMIdentity
  let id: InstanceID
  let slot: Int
  let isRestored: Bool
  private let runDirectory: FilePath
  private let host: HostFixture
  private let state: Mutex<State>
  private let exit = Promise<VMMExit>()

  init(_ configuration: VMConfiguration, pid: Int32, host: HostFixture) {
    identity = VMMIdentity(pid: pid, startTimeTicks: UInt64(pid))
    id = configuration.id
    slot = configuration.networkNamespace.lastComponent.flatMap { Int($0.string) } ?? -1
    isRestored = configuration.start != .boot
    runDirectory = configuration.runDirectory
    self.host = host
    state = Mutex(State(isLoaded: !isRestored, isStopped: isRestored, disk: FilePath(configuration.disk.path)))
  }

  var counter: Int { state.withLock { $0.counter } }
  var isFrozen: Bool { state.withLock { $0.isFrozen } }
  var isRunning: Bool { state.withLock { !$0.isStopped && !$0.isFrozen && !$0.hasEnded } }
  var isStopped: Bool { state.withLock { $0.isStopped } }

  /// Simulates the guest's processes.
  func count() throws {
    try state.withLock { state in
      guard !state.isStopped, !state.isFrozen, !state.hasEnded else { throw HostFixture.Failure() }
      state.counter += 1
      try SimulatedDiskFile.append(state.counter, to: state.disk)
    }
  }

  func freeze(_ isFrozen: Bool) {
    state.withLock { $0.isFrozen = isFrozen }
  }

  /// Tasks that wait for its end.
  var waiterCount: Int { exit.waiterCount }

  func waitForExit() async throws(CancellationError) -> VMMExit { try await exit.value() }

  func end(_ reason: String, guestText: String? = nil) {
    let isFirst = state.withLock { state in
      defer { state.hasEnded = true }
      return !state.hasEnded
    }
    guard isFirst else { return }
    host.machineEnded(identity.pid)
    host.pager(in: runDirectory)?.end(nil)
    exit.set(VMMExit(reason: reason, guestText: guestText))
  }

  func status() async throws -> VMMStatus { isRunning ? .running : .paused }
  func drainConsole() async throws -> [UInt8] { Array(host.console.withLock { $0 }.utf8) }
  /// A VMM in uninterruptible sleep does not end for now.
  func kill() async throws(CancellationError) {
    if !host.machinesHang.isOn { end("stopped") }
    _ = try await exit.value()
  }

  func loadState(from file: FilePath) async throws {
    guard let saved = Int(try SmallFile.readText(file.string)), let pager = host.pager(in: runDirectory) else {
      throw HostFixture.Failure()
    }
    let inMemory = try pager.counter()
    try state.withLock { state in
      let onDisk = try SimulatedDiskFile.last(of: state.disk)
      guard inMemory == saved, onDisk == saved else {
        throw MartletError(
          .internalError, "memory \(inMemory), devices \(saved) and disk \(onDisk) are of different moments")
      }
      state.counter = saved
      state.isLoaded = true
      // User processes were frozen when the state was saved.
      state.isFrozen = true
    }
  }

  func resume() async throws {
    if host.firstPageIsDamaged.isOn {
      host.pager(in: runDirectory)?.end("page 7 of the snapshot is damaged")
      end("the VMM was killed by signal 9")
    }
    try state.withLock { state in
      guard state.isLoaded, !state.hasEnded else { throw HostFixture.Failure() }
      state.isStopped = false
    }
  }

  func stop() async throws {
    try state.withLock { state in
      guard !state.hasEnded else { throw HostFixture.Failure() }
      state.isStopped = true
    }
  }

  func saveState(to file: FilePath) async throws {
    guard isStopped else { throw HostFixture.Failure() }
    try SmallFile.replace(file, with: Array("\(counter)".utf8), mode: 0o600)
  }

  func switchDisk(to disk: DiskAttachment) async throws {
    guard isStopped else { throw HostFixture.Failure() }
    state.withLock { $0.disk = FilePath(disk.path) }
  }

  func diskPath() async throws -> String { state.withLock { $0.disk.string } }
}

struct SimulatedDriver: HypervisorDriver {
  let host: HostFixture
  let agent: Int
  var isolation: (vmm: String, accelerator: String) { ("simulated", "none") }
  var machine: MachineDescription {
    MachineDescription(
      vmm: "simulated", vmmVersion: "1", machine: "1", firmwareDigest: "", cpuModel: "any", accelerator: "none")
  }

  func launch(_ configuration: VMConfiguration) async throws -> any VirtualMachine {
    let machine = SimulatedMachine(configuration, pid: host.pid(), host: host)
    try host.act(agent) { host.add(machine) }
    return machine
  }

  func adopt(_ identity: VMMIdentity, runDirectory: FilePath, cgroup: Cgroup?) async throws -> (any VirtualMachine)? {
    try host.lookUpProcess()
    return host.machine(identity.pid)
  }

  func findOrphans(of id: InstanceID) throws -> [VMMIdentity] {
    try host.lookUpProcess()
    return host.allMachines.filter { $0.id == id }.map(\.identity)
  }
}

/// A disk that is a list of numbers over another disk.
enum SimulatedDiskFile {
  static func create(_ path: FilePath, over base: FilePath) throws {
    try SmallFile.replace(path, with: Array("\(base)\n".utf8), mode: 0o644)
  }

  static func append(_ number: Int, to path: FilePath) throws {
    let text = try SmallFile.readText(path.string) + "\(number)\n"
    // In place: the file may have a second name already, which must show a write that should not happen.
    try SmallFile.write(text, to: path.string)
  }

  /// All numbers, those of the disks below first.
  static func numbers(of path: FilePath) throws -> [Int] {
    guard path.string != "/images/none.ext4" else { return [] }
    let lines = try SmallFile.readText(path.string).split(separator: "\n")
    guard let base = lines.first else { throw HostFixture.Failure() }
    return try numbers(of: FilePath(String(base))) + lines.dropFirst().compactMap { Int($0) }
  }

  static func last(of path: FilePath) throws -> Int { try numbers(of: path).last ?? 0 }
}

struct SimulatedDisks: DiskBackend {
  private let files = QcowOverlays()

  func create(
    name: String, base: DiskBase, sizeBytes: Int64, directory: FilePath, ownerUID: UInt32
  ) async throws(MartletError) -> Disk {
    let path = directory.appending(name)
    try await perform { try SimulatedDiskFile.create(path, over: base.path) }
    return Disk(path: path, format: .raw, sizeBytes: sizeBytes, base: base)
  }

  func remove(_ disk: Disk) async throws(MartletError) { try await files.remove(disk) }
  func freeze(_ disk: Disk, as layer: FilePath) async throws(MartletError) -> DiskBase { disk.base }
  func flatten(_ disk: Disk, to image: FilePath) async throws(MartletError) -> Int64 { 0 }
  func allocatedBytes(of disk: Disk) throws(MartletError) -> Int64 { 0 }
  func capture(_ disk: Disk, as layer: FilePath) async throws(MartletError) {
    try await files.link(disk.path, as: layer)
  }
  func link(_ layer: FilePath, as name: FilePath) async throws(MartletError) { try await files.link(layer, as: name) }
  func seal(_ layer: FilePath) async throws(MartletError) {}

  func merge(_ disk: Disk, onto base: DiskBase, to layer: FilePath) async throws(MartletError) {
    try await perform {
      let below = try SimulatedDiskFile.numbers(of: base.path)
      let all = try SimulatedDiskFile.numbers(of: disk.path)
      try SimulatedDiskFile.create(layer, over: base.path)
      for number in all.dropFirst(below.count) { try SimulatedDiskFile.append(number, to: layer) }
    }
  }

  private func perform(_ body: () throws -> Void) async throws(MartletError) {
    do { try body() } catch { throw MartletError.wrapping(error) }
  }
}

struct SimulatedNetwork: NetworkBackend {
  let host: HostFixture
  let agent: Int

  func prepareHost() async throws { host.change { $0.isHostReady = true } }
  func teardownHost() async throws { host.change { $0.isHostReady = false } }

  func create(slot: Int, policy: NetworkPolicy, ownerUID: UInt32) async throws -> NetworkHandle {
    guard !host.now.networks.contains(slot) else { throw HostFixture.Failure() }
    try host.act(agent) { host.change { $0.networks.insert(slot) } }
    return NetworkHandle(
      slot: slot, namespacePath: FilePath("/run/netns/\(slot)"), hostAddress: IPv4Address(UInt32(slot)), tapName: "tap0"
    )
  }

  func remove(slot: Int) async throws {
    let refuses = host.stubbornRemovals.withLock { left in
      defer { left = max(0, left - 1) }
      return left > 0
    }
    if refuses { throw HostFixture.Failure() }
    host.change { $0.networks.remove(slot) }
  }

  func existingSlots() async throws -> [Int] { host.now.networks.sorted() }
}

struct SimulatedTemplates: TemplateSource {
  func template(_ name: SafeName, team: TeamID) throws -> TemplateImage {
    guard name == .minimal else { throw MartletError(.notFound, "template \(name) does not exist") }
    let digest = ImageDigest(bytes: [UInt8](repeating: 7, count: 32))
    return TemplateImage(
      manifest: TemplateManifest(
        name: name, team: .platform, digest: digest, imageSizeBytes: 1, allocatedBytes: 1, defaultUser: "root",
        defaultWorkdir: "/root",
        envs: ["FROM_TEMPLATE": "1"], createdAt: Date(), agentDigest: digest),
      path: "/images/none.ext4")
  }

  func templates(team: TeamID?) throws -> [TemplateImage] { [try template(.minimal, team: .platform)] }

  func guestKernel() throws -> GuestKernel { GuestKernel(vmlinux: "/k", initramfs: "/i", version: "0") }
}

struct SimulatedGuests: GuestConnector {
  let host: HostFixture

  func guest(at address: IPv4Address, accessToken: String?, id: SandboxID) -> any Guest {
    SimulatedGuest(host: host, slot: Int(address.value), token: accessToken)
  }
}

struct SimulatedGuest: Guest {
  struct Unused: Error {}

  let host: HostFixture
  let slot: Int
  let token: String?

  private func machine() throws -> SimulatedMachine {
    guard let machine = host.machine(slot: slot), !machine.isStopped else { throw HostFixture.Failure() }
    return machine
  }

  func waitUntilHealthy() async throws {
    while !host.guestsRespond.withLock({ $0 }) || (try? machine()) == nil {
      try await Task.sleep(for: .milliseconds(5))
    }
  }

  func initialize(_ identity: GuestIdentity) async throws {
    try await waitUntilHealthy()
    try machine().freeze(false)
  }

  func warmUp() async throws { try await waitUntilHealthy() }
  func freeze() async throws { try machine().freeze(true) }
  func thaw() async throws { try machine().freeze(false) }
  func start(_ request: ProcessRequest) async throws -> any ProcessSession { throw Unused() }
  func attach(_ selector: ProcessSelector) async throws -> any ProcessSession { throw Unused() }
  func listProcesses() async throws -> [GuestProcess] {
    try machine().count()
    return []
  }
  func signal(_ selector: ProcessSelector, signal: Int32) async throws {}
  func writeFile(_ path: String, user: String?, body: ByteStream) async throws {}
  /// A file of which only the beginning arrives.
  func readFile(_ path: String, user: String?) async throws -> FileDownload {
    let (body, source) = AsyncThrowingStream.makeStream(of: ByteBuffer.self, throwing: (any Error).self)
    source.yield(ByteBuffer(string: path))
    return FileDownload(sizeBytes: nil, body: body) { source.finish(throwing: $0) }
  }
  func listDirectory(_ path: String, depth: Int, user: String?) async throws -> [FileEntry] { [] }
  func fileStatus(_ path: String, user: String?) async throws -> FileEntry { throw Unused() }
  func makeDirectory(_ path: String, user: String?) async throws -> FileEntry { throw Unused() }
  func renameFile(from source: String, to destination: String, user: String?) async throws -> FileEntry {
    throw Unused()
  }
  func removeFile(_ path: String, user: String?) async throws {}
  func metrics() async throws -> GuestMetrics { throw Unused() }
}
