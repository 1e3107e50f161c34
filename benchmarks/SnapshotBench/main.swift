import Foundation
import LinuxSystem
import Logging
import Model
import Snapshots
import SystemPackage

/// Measures the cost of the snapshot store per page for memories from 64 MiB to 64 GiB, with the same number of stored
/// pages spread over the whole memory: constant results show that the cost does not depend on the size. Prints JSON.
///
/// usage: snapshot-bench [DIRECTORY]
struct Measurement: Encodable {
  var memoryMebibytes: Int
  var storedPages: Int
  /// `MemoryImage.source` for pages in random order.
  var lookUpNanoseconds: Double
  /// Writing pages into a new layer: zero test, checksum, write to the page cache.
  var saveMicrosecondsPerPage: Double
  /// Writing the header of a generation with one changed page, per page that stays mapped as in the parent.
  var mergeNanosecondsPerRun: Double
  /// Compaction of two generations, including fsync.
  var compactMicrosecondsPerPage: Double
}

let storedPages = 16_384
let pageBytes = 4_096

func seconds(_ body: () throws -> Void) rethrows -> Double {
  let elapsed = try ContinuousClock().measure(body)
  return Double(elapsed.components.seconds) + Double(elapsed.components.attoseconds) / 1e18
}

func save(
  _ store: SnapshotStore, memoryBytes: Int64, stride: Int, count: Int, parent: Generation?, content: [UInt8]
) throws -> (generation: Generation, writing: Double) {
  let draft = try store.begin(GenerationID())
  let image = try parent.map { try MemoryImage.open($0, in: store) }
  let writing = try seconds {
    let writer = try MemoryLayerWriter(draft, memoryBytes: memoryBytes, parent: image)
    try content.withUnsafeBytes { bytes in
      for index in 0..<count {
        // Gives each page different content without preparing it in advance.
        let page = UnsafeRawBufferPointer(rebasing: bytes[(index * 8)..<(index * 8 + pageBytes)])
        try writer.append(page, at: index * stride)
      }
    }
    _ = try writer.finish()
  }
  try Data("devices".utf8).write(to: URL(fileURLWithPath: draft.devicePath.string))
  try Data("disk".utf8).write(to: URL(fileURLWithPath: draft.diskPath.string))
  let manifest = GenerationManifest(
    id: draft.id, parent: parent?.id, diskParents: [], createdAt: Date(),
    machine: MachineDescription(
      vmm: "none", vmmVersion: "", machine: "", firmwareDigest: "", cpuModel: "", accelerator: ""),
    vcpus: 1, memoryBytes: memoryBytes,
    disk: .init(sizeBytes: 4, format: "raw", basePath: "", baseFormat: "raw", baseDigest: ""),
    template: .minimal)
  return (try store.publish(draft, manifest), writing)
}

func measure(mebibytes: Int, in directory: FilePath) throws -> Measurement {
  let store = SnapshotStore(
    directory: directory, logger: Logger(label: "snapshot-bench") { _ in SwiftLogNoOpLogHandler() })
  defer { try? Directories.removeTree(directory) }
  let memoryBytes = Int64(mebibytes) << 20
  let pages = Int(memoryBytes) / pageBytes
  let content = (0..<(storedPages * 8 + pageBytes)).map { _ in UInt8.random(in: 0...255) }
  let first = try save(
    store, memoryBytes: memoryBytes, stride: pages / storedPages, count: storedPages, parent: nil, content: content)
  let second = try save(
    store, memoryBytes: memoryBytes, stride: 1, count: 1, parent: first.generation, content: content.reversed())
  let image = try MemoryImage.open(second.generation, in: store)
  let order = (0..<1_000_000).map { _ in Int.random(in: 0..<pages) }
  var found = 0
  let lookUp = seconds {
    for page in order { if case .stored = image.source(of: page) { found += 1 } }
  }
  precondition(found > 0, "no page was found")
  let compaction = try seconds { _ = try store.compact(second.generation.id, as: GenerationID(), keeping: []) }
  let runs = image.extents(in: 0..<pages).reduce(0) { count, _ in count + 1 }
  return Measurement(
    memoryMebibytes: mebibytes, storedPages: storedPages, lookUpNanoseconds: lookUp / Double(order.count) * 1e9,
    saveMicrosecondsPerPage: first.writing / Double(storedPages) * 1e6,
    mergeNanosecondsPerRun: second.writing / Double(runs) * 1e9,
    compactMicrosecondsPerPage: compaction / Double(storedPages) * 1e6)
}

let directory = FilePath(CommandLine.arguments.dropFirst().first ?? FileManager.default.temporaryDirectory.path)
let results = try [64, 1_024, 8_192, 65_536].map { size in
  try measure(mebibytes: size, in: directory.appending("snapshot-bench-\(UUID().uuidString)"))
}
let encoder = JSONEncoder()
encoder.outputFormatting = [.prettyPrinted, .sortedKeys]
FileHandle.standardOutput.write(try encoder.encode(results) + Data("\n".utf8))
