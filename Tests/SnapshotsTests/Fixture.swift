import Foundation
import LinuxSystem
import Logging
import Model
import Qcow
import SystemPackage

@testable import Snapshots

/// A reproducible random number generator. Source: Steele, Lea, Flood: Fast splittable pseudorandom number generators
/// (SplitMix64).
struct Seeded: RandomNumberGenerator {
  private var state: UInt64

  init(_ seed: UInt64) {
    state = seed
  }

  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var mixed = state
    mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
    mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
    return mixed ^ (mixed >> 31)
  }

  mutating func page() -> [UInt8] {
    let word = next()
    return withUnsafeBytes(of: word) { Array($0) }
      + [UInt8](repeating: UInt8(truncatingIfNeeded: word >> 7), count: 4_088)
  }
}

/// A guest's memory as a plain array of bytes: the expected content.
struct PlainMemory: Equatable {
  static let pageBytes = 4_096
  var bytes: [UInt8]

  init(pages: Int) {
    bytes = [UInt8](repeating: 0, count: pages * Self.pageBytes)
  }

  var pageCount: Int { bytes.count / Self.pageBytes }

  subscript(page: Int) -> [UInt8] {
    get { Array(bytes[(page * Self.pageBytes)..<((page + 1) * Self.pageBytes)]) }
    set { newValue.withUnsafeBytes { copy($0, to: page) } }
  }

  mutating func copy(_ source: UnsafeRawBufferPointer, to page: Int) {
    bytes.withUnsafeMutableBytes { target in
      let range = (page * Self.pageBytes)..<(page * Self.pageBytes + source.count)
      UnsafeMutableRawBufferPointer(rebasing: target[range]).copyMemory(from: source)
    }
  }

  static func == (left: Self, right: Self) -> Bool {
    left.bytes.count == right.bytes.count && memcmp(left.bytes, right.bytes, left.bytes.count) == 0
  }
}

/// A store in a temporary directory, which is removed with the value.
final class Fixture: Sendable {
  let directory: FilePath
  let store: SnapshotStore
  let base: FilePath

  init(observer: SnapshotObserver = SnapshotObserver()) throws {
    directory = Self.parent.appending("martlet-snapshots-\(UUID().uuidString)")
    base = directory.appending("base.ext4")
    store = SnapshotStore(directory: directory.appending("store"), logger: Self.logger, observer: observer)
    try Directories.create(directory)
    try Data(repeating: 7, count: 8_192).write(to: URL(fileURLWithPath: base.string))
  }

  deinit {
    try? Directories.removeTree(directory)
  }

  /// In memory if possible, because tests would wait for thousands of fsyncs. Real file systems have separate tests.
  private static var parent: FilePath {
    let shared = "/dev/shm"
    return FilePath(access(shared, W_OK) == 0 ? shared : FileManager.default.temporaryDirectory.path)
  }

  static var logger: Logger { Logger(label: "test") { _ in SwiftLogNoOpLogHandler() } }

  /// Writes a complete draft: the `dirty` pages of `memory` over the parent.
  func draft(
    _ memory: PlainMemory, dirty: [Range<Int>], zero: [Range<Int>] = [], parent: Generation? = nil,
    id: GenerationID = GenerationID()
  ) throws -> (GenerationDraft, GenerationManifest) {
    let draft = try store.begin(id)
    let parentImage = try parent.map { try MemoryImage.open($0, in: store) }
    let writer = try MemoryLayerWriter(draft, memoryBytes: Int64(memory.bytes.count), parent: parentImage)
    for range in (dirty + zero).sorted(by: { $0.lowerBound < $1.lowerBound }) {
      if zero.contains(range) { try writer.markZero(range) } else { try append(range, of: memory, to: writer) }
    }
    _ = try writer.finish()
    try Data("devices of \(id)".utf8).write(to: URL(fileURLWithPath: draft.devicePath.string))
    try Data(DiskLayerBytes.layer(payload: "disk of \(id)")).write(to: URL(fileURLWithPath: draft.diskPath.string))
    return (draft, try manifest(id, memoryBytes: Int64(memory.bytes.count), parent: parent?.id))
  }

  func save(
    _ memory: PlainMemory, dirty: [Range<Int>], zero: [Range<Int>] = [], parent: Generation? = nil,
    id: GenerationID = GenerationID()
  ) throws -> Generation {
    let (draft, manifest) = try draft(memory, dirty: dirty, zero: zero, parent: parent, id: id)
    return try store.publish(draft, manifest)
  }

  func collect(roots: Set<GenerationID>, drafts: Set<GenerationID> = []) throws -> Set<GenerationID> {
    try store.collectGarbage(roots: roots, drafts: drafts, among: store.identifiers())
  }

  func append(_ pages: Range<Int>, of memory: PlainMemory, to writer: MemoryLayerWriter) throws {
    try memory.bytes.withUnsafeBytes { bytes in
      let range = (pages.lowerBound * PlainMemory.pageBytes)..<(pages.upperBound * PlainMemory.pageBytes)
      try writer.append(UnsafeRawBufferPointer(rebasing: bytes[range]), at: pages.lowerBound)
    }
  }

  func manifest(_ id: GenerationID, memoryBytes: Int64, parent: GenerationID?) throws -> GenerationManifest {
    GenerationManifest(
      id: id, parent: parent, diskParents: [], createdAt: Date(timeIntervalSince1970: 1_700_000_000.125),
      machine: MachineDescription(
        vmm: "qemu", vmmVersion: "7.2.22", machine: "microvm-1", firmwareDigest: "", cpuModel: "max", accelerator: "tcg"
      ),
      vcpus: 1, memoryBytes: memoryBytes,
      disk: .init(
        sizeBytes: 1 << 20, format: "qcow2", basePath: base.string, baseFormat: "raw", baseDigest: "sha256-00"),
      template: .minimal)
  }

  /// Reads the whole memory as a pager would: every page is verified.
  func read(_ generation: Generation, from store: SnapshotStore? = nil) throws -> PlainMemory {
    let image = try MemoryImage.open(generation, in: store ?? self.store)
    var memory = PlainMemory(pages: image.pageCount)
    if let page = image.firstDamaged(in: 0..<image.pageCount) { throw image.damage(at: page) }
    for extent in image.extents(in: 0..<image.pageCount) {
      guard case .stored(let stored) = extent.source else { continue }
      memory.copy(stored.bytes, to: extent.pages.lowerBound)
    }
    return memory
  }
}

extension SnapshotStore {
  func collectAll(roots: Set<GenerationID>) throws(MartletError) -> Set<GenerationID> {
    try collectGarbage(roots: roots, drafts: [], among: identifiers())
  }
}

enum DiskLayerBytes {
  /// An empty disk layer of 1 MiB as `QcowLayerWriter` writes it, followed by a payload; `backing` is the name that
  /// earlier versions wrote into the header.
  static func layer(
    over backing: String = "", format: String = "raw", features: UInt64 = 16, payload: String
  ) -> [UInt8] {
    func integer(_ value: some FixedWidthInteger) -> [UInt8] { withUnsafeBytes(of: value.bigEndian) { Array($0) } }
    var bytes = QcowHeader(sizeBytes: 1 << 20, l1Offset: 3 << 17, refcountTableOffset: 1 << 17).encoded()
    bytes.replaceSubrange(72..<80, with: integer(features))
    if !backing.isEmpty {
      let name = Array(format.utf8)
      let padded = name + [UInt8](repeating: 0, count: (8 - name.count % 8) % 8)
      let extensions = integer(UInt32(0xE279_2ACA)) + integer(UInt32(name.count)) + padded + integer(UInt64(0))
      bytes = bytes.prefix(104) + extensions + Array(backing.utf8)
      bytes.replaceSubrange(8..<20, with: integer(UInt64(104 + extensions.count)) + integer(UInt32(backing.utf8.count)))
    }
    return bytes + [UInt8](repeating: 0, count: (4 << 17) - bytes.count) + Array(payload.utf8)
  }
}
