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
      try await QcowOverlays().capture([disk], as: draft.diskPath)
      try StoreFile.remove(disk.path)
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

  /// The same generation as an earlier version would have written it: the header of its disk layer names a backing
  /// file.
  func withFormerHeader(
    _ generation: Generation, naming file: FilePath, parent: Generation?
  ) async throws -> Generation {
    let draft = try store.begin(GenerationID())
    let image = try MemoryImage.open(generation, in: store)
    let writer = try MemoryLayerWriter(draft, memoryBytes: 1 << 20, parent: nil)
    for extent in image.extents(in: 0..<image.pageCount) {
      if case .stored(let stored) = extent.source { try writer.append(stored.bytes, at: extent.pages.lowerBound) }
    }
    _ = try writer.finish()
    try StoreFile.create(draft.devicePath, Array("devices".utf8), mode: 0o600)
    try SparseFile.copy(generation.diskPath, to: draft.diskPath, mode: 0o600)
    try await Tool.run(
      "qemu-img", ["rebase", "-u", "-f", "qcow2", "-F", "raw", "-b", file.string, draft.diskPath.string]
    ).checked()
    var manifest = generation.manifest
    manifest.id = draft.id
    manifest.parent = nil
    manifest.diskParents = parent.map { [$0.id] + $0.manifest.diskParents } ?? []
    let digest = try ContentDigest.of(draft.diskPath).digest
    return try store.publish(draft, manifest, copied: [SnapshotFile.diskLayer.rawValue: digest])
  }

  /// Makes a disk over the parent's, or over the base; `commands` of qemu-io(1) are the guest's writes.
  func disk(over parent: Generation? = nil, sizeBytes: Int64, _ commands: [String] = []) async throws -> Disk {
    let base =
      parent.map { DiskBase(path: $0.diskPath, format: .qcow2, digest: "00") }
      ?? DiskBase(path: base, format: .raw, digest: "00")
    let disk = try await QcowOverlays().create(
      name: "disk-\(UUID().uuidString)", base: base, sizeBytes: sizeBytes, directory: directory)
    guard !commands.isEmpty else { return disk }
    let below = try parent.map { try store.diskLayers(of: store.generation($0.id)).map(\.path) } ?? []
    let output = try await Tool.run("qemu-io", commands.flatMap { ["-c", $0] } + [chain([disk.path] + below)]).checked()
    guard !output.outputText.contains("fail") else {
      throw ToolError("qemu-io", .failed(.exited(1), output.outputText))
    }
    return disk
  }

  /// A chain of layers over the base for QEMU's tools, the uppermost first.
  func chain(_ layers: [FilePath]) -> String {
    "json:"
      + layers.reversed().reduce(#"{"driver":"raw","file":{"driver":"file","filename":"\#(base)"}}"#) {
        #"{"driver":"qcow2","file":{"driver":"file","filename":"\#($1)"},"backing":\#($0)}"#
      }
  }

  func collect(roots: Set<GenerationID>, drafts: Set<GenerationID>) throws(MartletError) -> Set<GenerationID> {
    try store.collectGarbage(roots: roots, drafts: drafts, among: store.identifiers())
  }

  /// The whole disk of a generation as a guest would read it.
  func content(ofDisk generation: Generation) async throws -> Data {
    let raw = directory.appending("raw-\(UUID().uuidString)")
    defer { try? StoreFile.remove(raw) }
    let layers = try store.diskLayers(of: store.generation(generation.id)).map(\.path)
    try await Tool.run("qemu-img", ["convert", "-O", "raw", chain(layers), raw.string]).checked()
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
