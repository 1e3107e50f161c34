import Concurrency
import Disks
import Foundation
import Glibc
import GuestClient
import Hypervisor
import LinuxSystem
import Model
import Pager
import QEMU
import Snapshots
import SystemPackage
import Testing

struct SavedSandbox: Sendable {
  let generation: Generation
  let memoryMiB: Int
  /// The access token of the guest when it was saved.
  let token: String
}

extension TestSandbox {
  /// Restores a copy of `saved` with its own network, user and disk, and runs it.
  func restore(_ saved: SavedSandbox, as sandboxID: String? = nil) async throws {
    try await load(saved)
    try await machine.resume()
    let token = "token-\(UUID().uuidString)"
    try await client(token: saved.token).initialize(
      identity(token: token, sandboxID: sandboxID), deadline: .now + .seconds(60))
    state.withLock { $0.token = token }
  }

  /// Restores up to the moment before the guest runs.
  func load(_ saved: SavedSandbox) async throws {
    let generation = saved.generation
    let bottom = generation.manifest.disk
    let disk = try await makeDisk(
      DiskBase(path: generation.diskPath, format: .qcow2, digest: bottom.baseDigest))
    let chain = [generation.id] + generation.manifest.diskParents
    let image = DiskLayer(name: "image", path: FilePath(bottom.basePath), format: .raw)
    let pager = try await fixture.memory.launch(
      PagerConfiguration(
        id: id, store: fixture.store.directory, generation: generation.id, runDirectory: directory, ownerUID: userID,
        recordsWorkingSet: false))
    state.withLock {
      $0.disk = disk
      $0.diskChain = chain
      $0.layers = chain.map { layer(of: $0) } + [image]
      $0.pager = pager
      $0.parent = generation
      $0.memoryMiB = saved.memoryMiB
    }
    try await launch(.restore(pagerSocket: directory.appending(PagerConfiguration.socketName)))
    try await machine.loadState(from: generation.devicePath)
    #expect(try await machine.status() == .paused)
  }

  /// Stops the guest, saves it as a new generation, switches to a new overlay and, with `continues`, continues.
  func save(continues: Bool) async throws -> SavedSandbox {
    try await client.freeze()
    try await machine.stop()
    let draft = try fixture.store.begin(GenerationID())
    let (parent, memoryMiB, token) = state.withLock { ($0.parent, $0.memoryMiB, $0.token) }
    try await machine.saveState(to: draft.devicePath)
    _ = try await fixture.memory.save(
      vmm: machine.identity.pid, runDirectory: directory, memoryBytes: Int64(memoryMiB) << 20, parent: parent,
      into: draft)
    let old = try disk
    let manifest = try manifest(of: draft.id, parent: parent, memoryMiB: memoryMiB)
    if continues {
      try await switchDisk(from: old)
      try await machine.resume()
      try await client.thaw()
    } else {
      await kill()
    }
    try await fixture.disks.capture([old], as: draft.diskPath)
    let generation = try fixture.store.publish(draft, manifest)
    if continues { try await rebase(onto: generation) }
    return SavedSandbox(generation: generation, memoryMiB: memoryMiB, token: try #require(token))
  }

  /// Puts the published layer below the running guest's disk in place of the overlay that it wrote to before.
  private func rebase(onto generation: Generation) async throws {
    let published = layer(of: generation.id)
    state.withLock {
      $0.parent = generation
      $0.diskChain.insert(generation.id, at: 0)
      $0.layers.insert(published, at: 0)
    }
    try await machine.replaceLayers(try await attachment())
  }

  private func manifest(of id: GenerationID, parent: Generation?, memoryMiB: Int) throws -> GenerationManifest {
    let bottom = try fixture.base
    return GenerationManifest(
      id: id, parent: parent?.id, diskParents: state.withLock { $0.diskChain }, createdAt: Date(),
      machine: fixture.driver.machine,
      vcpus: 1, memoryBytes: Int64(memoryMiB) << 20,
      disk: .init(
        sizeBytes: VMFixture.diskBytes, format: "qcow2", basePath: bottom.path.string, baseFormat: "raw",
        baseDigest: bottom.digest),
      template: try SafeName("minimal"))
  }
}
