import Disks
import Foundation
import Glibc
import HostAPI
import Hypervisor
import Images
import LinuxSystem
import Model
import Pager
import SandboxNetwork
import Snapshots
import SystemPackage

extension Instance {
  /// Boots a template. Returns when the VMM runs; the guest may not respond yet. On failure everything made so far
  /// stays until `remove`.
  func boot(_ template: TemplateImage) async throws {
    timings = PhaseTimings()
    try await makeEntry()
    try await making(.directory) { try await self.makeDirectory() }
    let base = DiskBase(path: template.path, format: .raw, digest: template.digest.description)
    try await making(.disk) { try await self.makeDisk(over: base, bottom: base, chain: []) }
    let network = try await making(.network) { try await self.makeNetwork() }
    let cgroup = try await making(.cgroup) { try await self.makeCgroup() }
    try await making(.vmm) { try await self.launch(.boot, network: network, cgroup: cgroup) }
  }

  /// Restores a generation up to the moment before the guest runs: its pages are served, its devices are loaded, its
  /// vCPUs are stopped.
  /// - Parameter isShared: whether other sandboxes are restored from it too.
  func restore(_ generation: Generation, isShared: Bool) async throws {
    timings = PhaseTimings()
    originIsShared = isShared
    try await makeEntry()
    try await making(.directory) { try await self.makeDirectory() }
    let cgroup = try await making(.cgroup) { try await self.makeCgroup() }
    async let verified: Void = verify(generation)
    async let disk: Void = making(.disk) { try await self.makeDisk(over: generation) }
    async let pager: Void = making(.pager) { try await self.launchPager() }
    let network = try await making(.network) { try await self.makeNetwork() }
    // QEMU opens nothing that was not checked.
    _ = try await (disk, pager, verified)
    let socket = directory.appending(PagerConfiguration.socketName)
    try await making(.vmm) { try await self.launch(.restore(pagerSocket: socket), network: network, cgroup: cgroup) }
    try await making(.state) { try await self.load(generation) }
  }

  /// Continues a restored guest. The first page that faults may be damaged, which ends the VMM before it has responded.
  func run() async throws {
    guard let machine else { throw MartletError(.internalError, "the microVM has not been started") }
    try await whileAlive { try await machine.resume() }
  }

  // MARK: - Steps

  /// - Parameter body: runs on this actor.
  private func making<Result: Sendable>(
    _ step: HostStep, _ body: @Sendable () async throws -> Result
  ) async throws -> Result {
    try Task.checkCancellation()
    try await self.step(.beforeMaking(step))
    let begin = ContinuousClock.now
    let result = try await body()
    timings.add(step.rawValue, since: begin)
    try await self.step(.afterMaking(step))
    return result
  }

  private func makeEntry() async throws {
    try await making(.journal) { try await self.context.journal.insert(self.entry) }
  }

  /// Root's own: the VMM's user passes through to the pager's socket, but cannot list it.
  private func makeDirectory() throws {
    let (path, userID) = (directory.string, entry.userID)
    try Directories.create(directory, mode: 0o700)
    // Simulated hosts run without root.
    guard geteuid() == 0 else { return }
    try SystemError.check("chown", path) { chown(path, 0, userID) }
    try SystemError.check("chmod", path) { chmod(path, 0o710) }
  }

  private func makeDisk(over base: DiskBase, bottom: DiskBase, chain: [GenerationID]) async throws {
    entry.bottom = bottom
    entry.diskChain = chain
    entry.disk = try await newOverlay(over: base)
  }

  private func makeDisk(over generation: Generation) async throws {
    let disk = generation.manifest.disk
    let base = DiskBase(
      path: generation.diskPath, format: DiskFormat(rawValue: disk.format) ?? .qcow2, digest: disk.baseDigest)
    let bottom = DiskBase(
      path: FilePath(disk.basePath), format: DiskFormat(rawValue: disk.baseFormat) ?? .raw, digest: disk.baseDigest)
    try await makeDisk(over: base, bottom: bottom, chain: [generation.id] + generation.manifest.diskParents)
  }

  func newOverlay(over base: DiskBase) async throws -> Disk {
    let name = "disk-\(entry.overlays)"
    entry.overlays += 1
    return try await context.parts.disks.create(
      name: name, base: base, sizeBytes: Int64(entry.diskSizeMiB) << 20, directory: directory)
  }

  /// `disk` and the published layers of the chain below it, opened for the VMM.
  func attachment(of disk: Disk) async throws -> DiskAttachment {
    let store = context.parts.snapshots
    var layers = entry.diskChain.map {
      DiskLayer(name: $0.diskLayerName, path: store.diskLayerPath(of: $0), format: disk.format)
    }
    let bottom = bottom(of: disk)
    layers.append(DiskLayer(name: "image", path: bottom.path, format: bottom.format))
    return DiskAttachment(try await context.parts.disks.open(disk, over: layers))
  }

  private func makeNetwork() async throws -> NetworkHandle {
    let handle = try await context.parts.network.create(slot: entry.slot, policy: entry.network, ownerUID: entry.userID)
    entry.hostAddress = handle.hostAddress
    return handle
  }

  private func makeCgroup() throws -> Cgroup? {
    guard let cgroup else { return nil }
    let memory = Int64(entry.memoryMiB + context.configuration.memoryOverheadMiB) << 20
    // Half a CPU more than the guest has, for device emulation.
    try cgroup.create(
      limits: CgroupLimits(
        memoryBytes: memory, cpuPercent: entry.vcpus * 100 + 50, processes: context.configuration.processLimit))
    return cgroup
  }

  private func launchPager() async throws {
    guard let configuration = pagerConfiguration else { return }
    let pager = try await context.parts.memory.launch(configuration)
    entry.pager = pager.identity
    watch(pager)
  }

  private func launch(_ start: VMStart, network: NetworkHandle, cgroup: Cgroup?) async throws {
    guard let disk = entry.disk else { throw MartletError(.internalError, "the microVM has no disk") }
    let kernel = try context.parts.templates.guestKernel()
    var configuration = VMConfiguration(
      id: id, start: start, vcpus: entry.vcpus, memoryMiB: entry.memoryMiB, kernel: kernel.vmlinux,
      initramfs: kernel.initramfs,
      kernelArguments: [
        "root=/dev/vda", "rw", "martlet.ip=\(GuestContract.guestAddress)/\(GuestContract.prefixLength)",
        "martlet.gw=\(GuestContract.gatewayAddress)", "martlet.dns=\(GuestContract.gatewayAddress)",
      ],
      disk: try await attachment(of: disk), runDirectory: directory, networkNamespace: network.namespacePath,
      tapName: network.tapName,
      macAddress: GuestContract.guestMAC, userID: entry.userID, cgroup: cgroup)
    configuration.visibleFiles = [VisibleFile(directory, isReadOnly: false)]
    let machine = try await context.parts.driver.launch(configuration)
    watch(machine)
    entry.vmm = machine.identity
    try await context.journal.update(entry)
  }

  private nonisolated func verify(_ generation: Generation) async throws {
    if let reason = generation.manifest.machine.incompatibility(with: context.parts.driver.machine) {
      throw MartletError(.snapshotIncompatible, "the snapshot cannot be restored on this host: \(reason)")
    }
    let store = context.parts.snapshots
    try await BlockingPool.shared.run { () throws(MartletError) in try store.verify(generation) }
  }

  private func load(_ generation: Generation) async throws {
    guard let machine else { throw MartletError(.internalError, "the microVM has not been started") }
    do {
      try await whileAlive { try await machine.loadState(from: generation.devicePath) }
    } catch let error as MartletError {
      throw error
    } catch {
      throw MartletError(.agentError, "the state of the sandbox's devices could not be loaded", cause: error)
    }
  }
}

extension DiskAttachment {
  init(_ disk: OpenDisk) {
    self.init(disk: File(disk.disk), layers: disk.layers.map(File.init))
  }
}

extension DiskAttachment.File {
  init(_ file: OpenDisk.File) {
    self.init(
      name: file.name, format: file.format == .raw ? .raw : .qcow2, readable: file.readable, writable: file.writable)
  }
}

extension GenerationID {
  /// Of its disk layer in a VMM: the 16 bytes of the id in base64url (RFC 4648).
  var diskLayerName: String {
    let text = withUnsafeBytes(of: uuid.uuid) { Data($0) }.base64EncodedString()
    return "layer-" + text.filter { $0 != "=" }.map { $0 == "+" ? "-" : $0 == "/" ? "_" : $0 }
  }
}
