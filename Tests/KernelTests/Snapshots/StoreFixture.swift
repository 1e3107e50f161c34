import Disks
import Foundation
import LinuxSystem
import Logging
import Model
import SystemPackage

@testable import Snapshots

/// A store on a small file system of its own, with real disks.
final class StoreFixture: Sendable {
  static let pageBytes = 4_096

  let directory: FilePath
  let store: SnapshotStore
  let base: FilePath

  private init(directory: FilePath) throws {
    self.directory = directory
    base = directory.appending("base.ext4")
    store = SnapshotStore(
      directory: directory.appending("store"), logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
    try (0..<16).reduce(into: Data()) { $0.append(Data(repeating: UInt8($1 + 1), count: 65_536)) }
      .write(to: URL(fileURLWithPath: base.string))
  }

  /// Runs `body` in a tmpfs of `megabytes`, which is removed afterwards.
  static func within(megabytes: Int, _ body: (StoreFixture) async throws -> Void) async throws {
    let directory = FilePath(FileManager.default.temporaryDirectory.path).appending(
      "martlet-snapshots-\(UUID().uuidString)")
    try Directories.create(directory)
    try await Tool.run("mount", ["-t", "tmpfs", "-o", "size=\(megabytes)m", "tmpfs", directory.string]).checked()
    let outcome: Result<Void, any Error>
    do {
      outcome = .success(try await body(StoreFixture(directory: directory)))
    } catch {
      outcome = .failure(error)
    }
    try await Tool.run("umount", [directory.string]).checked()
    try Directories.removeTree(directory)
    try outcome.get()
  }

  /// Fills the file system except for about `kilobytes`.
  func fill(leaving kilobytes: Int) throws {
    let filler = directory.appending("filler").string
    let handle = open(filler, O_WRONLY | O_CREAT | O_TRUNC, 0o600)
    guard handle >= 0 else { throw SystemError.current("open", subject: filler) }
    defer { close(handle) }
    let page = [UInt8](repeating: 1, count: Self.pageBytes)
    while write(handle, page, page.count) == page.count {}
    let size = lseek(handle, 0, SEEK_CUR)
    guard ftruncate(handle, max(0, size - kilobytes * 1_024)) == 0 else {
      throw SystemError.current("ftruncate", subject: filler)
    }
  }

  func makeRoom() throws {
    try StoreFile.remove(directory.appending("filler"))
  }

  /// Saves a generation with `pages` as the first pages of its memory, and `disk` as its disk layer.
  func save(_ pages: [UInt8], over parent: Generation? = nil, disk: Disk) async throws -> Generation {
    let draft = try store.begin(GenerationID())
    do {
      let image = try parent.map { try MemoryImage.open($0, in: store) }
      let writer = try MemoryLayerWriter(draft, memoryBytes: 1 << 20, parent: image)
      try pages.withUnsafeBytes { try writer.append($0, at: 0) }
      _ = try writer.finish()
      try StoreFile.create(draft.devicePath, Array("devices".utf8), mode: 0o600)
      _ = try await QcowOverlays().freeze(disk, as: draft.diskPath)
      return try store.publish(draft, manifest(draft.id, parent, disk))
    } catch {
      try store.discard(draft)
      throw MartletError.wrapping((error as? SystemError).map { MartletError.storageFailure("not saved", $0) } ?? error)
    }
  }

  private func manifest(_ id: GenerationID, _ parent: Generation?, _ disk: Disk) throws -> GenerationManifest {
    GenerationManifest(
      id: id, parent: parent?.id, diskParents: parent.map { [$0.id] + $0.manifest.diskParents } ?? [],
      createdAt: Date(),
      machine: MachineDescription(
        vmm: "qemu", vmmVersion: "7.2.22", machine: "microvm-1", firmwareDigest: "", cpuModel: "max", accelerator: "tcg"
      ),
      vcpus: 1, memoryBytes: 1 << 20,
      disk: .init(
        sizeBytes: disk.sizeBytes, format: "qcow2", basePath: base.string, baseFormat: "raw", baseDigest: "sha256-00"),
      template: .minimal)
  }

  /// Makes a disk over the parent's, or over the base; `commands` of qemu-io(1) are the guest's writes.
  func disk(over parent: Generation? = nil, sizeBytes: Int64, _ commands: [String] = []) async throws -> Disk {
    if let parent { try await QcowOverlays().link(parent.diskPath, as: store.diskLayer(of: parent.id)) }
    let base =
      parent.map { DiskBase(path: store.diskLayer(of: $0.id), format: .qcow2, digest: "00") }
      ?? DiskBase(path: base, format: .raw, digest: "00")
    let disk = try await QcowOverlays().create(
      name: "disk-\(UUID().uuidString)", base: base, sizeBytes: sizeBytes, directory: directory, ownerUID: geteuid())
    guard !commands.isEmpty else { return disk }
    let output = try await Tool.run("qemu-io", ["-f", "qcow2"] + commands.flatMap { ["-c", $0] } + [disk.path.string])
      .checked()
    guard !output.outputText.contains("fail") else {
      throw ToolError("qemu-io", .failed(.exited(1), output.outputText))
    }
    return disk
  }

  func collect(roots: Set<GenerationID>, drafts: Set<GenerationID>) throws(MartletError) -> Set<GenerationID> {
    try store.collectGarbage(roots: roots, drafts: drafts, among: store.identifiers())
  }

  /// The whole disk of a generation as a guest would read it.
  func content(ofDisk generation: Generation) async throws -> Data {
    let raw = directory.appending("raw-\(UUID().uuidString)")
    defer { try? StoreFile.remove(raw) }
    try await Tool.run("qemu-img", ["convert", "-f", "qcow2", "-O", "raw", generation.diskPath.string, raw.string])
      .checked()
    return try Data(contentsOf: URL(fileURLWithPath: raw.string))
  }

  /// The first pages of a generation's memory.
  func memory(of generation: Generation, pages: Int) throws -> [UInt8] {
    let image = try MemoryImage.open(generation, in: store)
    if let damaged = image.firstDamaged(in: 0..<pages) { throw image.damage(at: damaged) }
    return image.extents(in: 0..<pages).reduce(into: []) { bytes, extent in
      switch extent.source {
      case .zero: bytes += [UInt8](repeating: 0, count: extent.pages.count * Self.pageBytes)
      case .stored(let stored): bytes += Array(stored.bytes)
      }
    }
  }
}
