import Disks
import Foundation
import HostAPI
import Hypervisor
import LinuxSystem
import Logging
import Model
import Pager
import Snapshots
import SystemPackage

/// The parameters of a checkpoint.
struct CheckpointRequest: Sendable {
  var generation: GenerationID
  /// Name of the template that the sandbox was created from.
  var template: SafeName
  /// Whether the guest continues afterwards; otherwise it stays stopped until `run` or `remove`.
  var continues: Bool
}

extension Instance {
  /// Writes memory, devices and disk of one moment as a new generation, which is durable and published on return.
  ///
  /// The guest's processes stand still while it is written; with `continues` they run on before its disk is copied and
  /// it is published. On failure the guest runs on as if nothing had been asked for. The caller holds the generation
  /// against collection.
  func checkpoint(_ request: CheckpointRequest, guest: any Guest) async throws -> Generation {
    timings = PhaseTimings()
    let store = context.parts.snapshots
    let draft = try await saving(.draft) {
      try await BlockingPool.shared.run { () throws(MartletError) in try store.begin(request.generation) }
    }
    var isStopped = false
    do {
      let manifest = try await capture(request, draft, guest, &isStopped)
      let begin = ContinuousClock.now
      let generation = try await saving(.publish) {
        try await BlockingPool.shared.run { () throws(MartletError) in try store.publish(draft, manifest) }
      }
      context.logger.debug("published", metadata: ["duration.ms": "\((ContinuousClock.now - begin).milliseconds)"])
      if request.continues { try await rebase(onto: generation) }
      return generation
    } catch {
      await abandon(draft, guest, wasStopped: isStopped)
      throw error
    }
  }

  /// The source and the destination of a checkpoint.
  private struct Subject {
    let machine: any VirtualMachine
    let disk: Disk
    let memory: any MemorySaving
    let draft: GenerationDraft
  }

  private func capture(
    _ request: CheckpointRequest, _ draft: GenerationDraft, _ guest: any Guest, _ isStopped: inout Bool
  ) async throws -> GenerationManifest {
    guard let machine, let disk = entry.disk else {
      throw MartletError(.internalError, "the microVM has not been started")
    }
    let memory = try await prepareMemory(of: machine, into: draft)
    do {
      isStopped = true
      return try await capture(
        Subject(machine: machine, disk: disk, memory: memory, draft: draft), request, guest, &isStopped)
    } catch {
      await memory.abandon()
      throw error
    }
  }

  /// The part of a checkpoint during which the guest is stopped.
  private func capture(
    _ subject: Subject, _ request: CheckpointRequest, _ guest: any Guest, _ isStopped: inout Bool
  ) async throws -> GenerationManifest {
    let (machine, draft) = (subject.machine, subject.draft)
    try await saving(.freeze) { try await self.whileAlive { try await guest.freeze() } }
    let begin = ContinuousClock.now
    try await saving(.stop) { try await self.whileAlive { try await machine.stop() } }
    try await saving(.devices) { try await self.whileAlive { try await machine.saveState(to: draft.devicePath) } }
    try await saving(.memory) { try await self.saveMemory(subject.memory) }
    let (disks, parents) = captured(subject.disk)
    if request.continues {
      try await saving(.overlay) { try await self.continueElsewhere(subject.disk, layer: request.generation) }
      try await saving(.run) { try await machine.resume() }
      timings.add("stopped", since: begin)
      try await guest.thaw()
      isStopped = false
    }
    // What the guest writes from now on goes elsewhere, so that this may take its time.
    try await saving(.disk) { try await self.context.parts.disks.capture(disks, as: draft.diskPath) }
    if !request.continues { timings.add("stopped", since: begin) }
    return manifest(request, subject.disk, diskParents: parents)
  }

  private func saving<Result: Sendable>(
    _ step: CheckpointStep, _ body: @Sendable () async throws -> Result
  ) async throws -> Result {
    try await self.step(.beforeSaving(step))
    let begin = ContinuousClock.now
    let result = try await body()
    timings.add(step.rawValue, since: begin)
    try await self.step(.afterSaving(step))
    return result
  }

  // MARK: - Memory

  private func prepareMemory(
    of machine: any VirtualMachine, into draft: GenerationDraft
  ) async throws -> any MemorySaving {
    try await context.parts.memory.prepareSaving(
      vmm: machine.identity.pid, runDirectory: directory, memoryBytes: Int64(entry.memoryMiB) << 20,
      parent: try await base(in: context.parts.snapshots), into: draft)
  }

  private func saveMemory(_ memory: any MemorySaving) async throws {
    let saved = try await memory.run()
    context.logger.debug(
      "saved memory",
      metadata: [
        "pages.stored": "\(saved.storedPages)", "pages.zeroed": "\(saved.zeroedPages)",
        "pages.equal": "\(saved.equalPages)",
      ])
  }

  private func base(in store: SnapshotStore) async throws -> Generation? {
    guard let base = entry.base else { return nil }
    return try await BlockingPool.shared.run { () throws(MartletError) in try store.generation(base) }
  }

  // MARK: - Disk

  func bottom(of disk: Disk) -> DiskBase {
    entry.bottom ?? disk.base
  }

  /// Moves the stopped guest to a new overlay over the one it has, which is not written again: `layer` is to have its
  /// content.
  private func continueElsewhere(_ disk: Disk, layer: GenerationID) async throws {
    guard let machine else { return }
    let next = try await newOverlay(over: DiskBase(path: disk.path, format: disk.format, digest: disk.baseDigest))
    entry.nextDisk = InstanceEntry.NextDisk(disk: next, layer: layer, parents: entry.diskChain)
    try await context.journal.update(entry)
    let file = DiskAttachment(try await context.parts.disks.open(next, over: [])).disk
    try await machine.switchDisk(to: file)
    try await diskSwitched()
  }

  /// The guest writes to `nextDisk` now. Until the generation is published, the content of the layer below is in the
  /// overlay only that the guest wrote to before.
  func diskSwitched() async throws {
    guard let next = entry.nextDisk else { return }
    if let disk = entry.disk {
      entry.retiredDisks = [InstanceEntry.RetiredDisk(disk: disk, layer: next.layer)] + (entry.retiredDisks ?? [])
    }
    entry.disk = next.disk
    entry.diskChain = [next.layer] + next.parents
    entry.unpublishedLayers = [next.layer] + entry.unpublishedLayers.filter(next.parents.contains)
    entry.nextDisk = nil
    try await context.journal.update(entry)
  }

  /// Later checkpoints are compared with this generation, and lie over its disk layer.
  private func rebase(onto generation: Generation) async throws {
    entry.base = generation.id
    entry.shortcut = nil
    entry.diskChain = [generation.id] + generation.manifest.diskParents
    entry.unpublishedLayers = []
    try await context.journal.update(entry)
    await dropRetiredDisks()
  }

  /// Puts the published layers below the running guest's disk, in place of the overlays that it wrote to before. They
  /// have the same content: a VMM that keeps the overlays only costs room.
  private func dropRetiredDisks() async {
    guard let machine, let disk = entry.disk, let retired = entry.retiredDisks, !retired.isEmpty else { return }
    do {
      try await machine.replaceLayers(try await attachment(of: disk))
      for former in retired { try await context.parts.disks.remove(former.disk) }
      entry.retiredDisks = []
      try await context.journal.update(entry)
    } catch {
      context.logger.warning("a guest keeps the disks that it wrote to before", metadata: ["error": "\(error)"])
    }
  }

  private func manifest(_ request: CheckpointRequest, _ disk: Disk, diskParents: [GenerationID]) -> GenerationManifest {
    let bottom = bottom(of: disk)
    return GenerationManifest(
      id: request.generation, parent: entry.base, diskParents: diskParents, createdAt: Date(),
      machine: context.parts.driver.machine,
      vcpus: entry.vcpus, memoryBytes: Int64(entry.memoryMiB) << 20,
      disk: GenerationManifest.DiskLayer(
        sizeBytes: disk.sizeBytes, format: disk.format.rawValue, basePath: bottom.path.string,
        baseFormat: bottom.format.rawValue,
        baseDigest: bottom.digest),
      template: request.template)
  }

  // MARK: - Failure

  /// Continues the guest after a failed checkpoint, and discards the draft; each step is tried.
  private func abandon(_ draft: GenerationDraft, _ guest: any Guest, wasStopped: Bool) async {
    if wasStopped { await resumeAndThaw(guest) }
    let store = context.parts.snapshots
    try? await BlockingPool.shared.run { () throws(MartletError) in try store.discard(draft) }
  }

  /// Continues a guest that may have been stopped. Idempotent.
  func resumeAndThaw(_ guest: any Guest) async {
    guard let machine else { return }
    do {
      try await machine.resume()
      try await guest.thaw()
    } catch {
      context.logger.error("a guest could not be continued after a failed checkpoint", metadata: ["error": "\(error)"])
    }
  }
}
