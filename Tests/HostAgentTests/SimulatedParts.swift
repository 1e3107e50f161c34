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
    var disk: DiskAttachment
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
    state = Mutex(State(isLoaded: !isRestored, isStopped: isRestored, disk: configuration.disk))
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
      try SimulatedDiskFile.append(state.counter, to: state.disk.disk)
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
      let onDisk = try SimulatedDiskFile.numbers(of: state.disk)
      guard inMemory == saved, onDisk == Array(0..<saved).map({ $0 + 1 }) else {
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

  func switchDisk(to disk: DiskAttachment.File) async throws {
    guard isStopped else { throw HostFixture.Failure() }
    state.withLock { $0.disk = DiskAttachment(disk: disk, layers: [$0.disk.disk] + $0.disk.layers) }
  }

  /// Fails unless the guest reads the same afterwards.
  func replaceLayers(_ attachment: DiskAttachment) async throws {
    try state.withLock { state in
      guard state.disk.disk.name == attachment.disk.name,
        try SimulatedDiskFile.numbers(of: state.disk) == SimulatedDiskFile.numbers(of: attachment)
      else { throw HostFixture.Failure() }
      state.disk.layers = attachment.layers
    }
  }

  func writtenDisk() async throws -> WrittenDisk {
    WrittenDisk(name: state.withLock { $0.disk.disk.name }, path: "")
  }
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

/// A disk whose files are lists of numbers: what was written while each was the uppermost one.
enum SimulatedDiskFile {
  static func append(_ number: Int, to file: DiskAttachment.File) throws {
    let line = Array("\(number)\n".utf8)
    let descriptor = file.writable?.rawValue ?? -1
    let size = try FileStatus.of(descriptor: descriptor).sizeBytes
    try SystemError.check("pwrite") { pwrite(descriptor, line, line.count, Int(size)) }
  }

  static func numbers(of file: OwnedDescriptor) throws -> [Int] {
    var bytes = [UInt8](repeating: 0, count: 65_536)
    let count = try SystemError.check("pread") { pread(file.rawValue, &bytes, bytes.count, 0) }
    return String(decoding: bytes[..<count], as: UTF8.self).split(separator: "\n").compactMap { Int($0) }
  }

  /// All numbers, those of the lowest layer first.
  static func numbers(of disk: DiskAttachment) throws -> [Int] {
    try (disk.layers.reversed() + [disk.disk]).flatMap { try numbers(of: $0.readable) }
  }
}

struct SimulatedDisks: DiskBackend {
  private let files = QcowOverlays()

  func create(
    name: String, base: DiskBase, sizeBytes: Int64, directory: FilePath
  ) async throws(MartletError) -> Disk {
    let path = directory.appending(name)
    try await perform { try SmallFile.replace(path, with: [], mode: 0o600) }
    return Disk(path: path, format: .raw, sizeBytes: sizeBytes, base: base)
  }

  func open(_ disk: Disk, over layers: [DiskLayer]) async throws(MartletError) -> OpenDisk {
    try await perform {
      let top = OpenDisk.File(
        name: disk.name, format: .raw, readable: try OwnedDescriptor.open(disk.path.string, O_RDONLY),
        writable: try OwnedDescriptor.open(disk.path.string, O_RDWR))
      // There is no image.
      let below = try layers.filter { $0.name != "image" }.map {
        OpenDisk.File(name: $0.name, format: .raw, readable: try OwnedDescriptor.open($0.path.string, O_RDONLY))
      }
      return OpenDisk(disk: top, layers: below)
    }
  }

  func remove(_ disk: Disk) async throws(MartletError) { try await files.remove(disk) }
  func allocatedBytes(of disk: Disk) throws(MartletError) -> Int64 { 0 }

  func capture(_ disks: [Disk], as layer: FilePath) async throws(MartletError) {
    try await perform {
      let numbers = try disks.reversed().flatMap {
        try SimulatedDiskFile.numbers(of: try OwnedDescriptor.open($0.path.string, O_RDONLY))
      }
      try SmallFile.replace(layer, with: Array(numbers.map { "\($0)\n" }.joined().utf8), mode: 0o400)
    }
  }

  private func perform<Value>(_ body: () throws -> Value) async throws(MartletError) -> Value {
    do { return try body() } catch { throw MartletError.wrapping(error) }
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
