import Foundation
import Model
import Testing

@testable import Snapshots

@Suite("memory.header")
struct MemoryHeaderTests {
  private let own = GenerationID(UUID(uuid: (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16)))
  private let parent = GenerationID(UUID(uuid: (17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32)))

  private func sample() throws -> MemoryHeader {
    try MemoryHeader(
      memoryBytes: 10 * 4_096,
      layers: [
        .init(generation: own, pageCount: 3, tableChecksum: 0xAABB_CCDD),
        .init(generation: parent, pageCount: 9, tableChecksum: 1),
      ],
      runs: [
        MemoryRun(start: 0, count: 4, generation: 1, layerPage: 5),
        MemoryRun(start: 4, count: 3, generation: 0, layerPage: 0),
        .zeros(7..<10),
      ])
  }

  @Test("every byte of the file is where the format says")
  func annotated() throws {
    let bytes = try sample().encoded()
    var expected: [UInt8] = Array("MARTLETH".utf8)
    expected += [1, 0, 0, 0]  // version
    expected += [0, 0x10, 0, 0]  // page size
    expected += [0, 0xA0, 0, 0, 0, 0, 0, 0]  // memory size
    expected += [2, 0, 0, 0] + [3, 0, 0, 0]  // generations, runs
    expected += Array(1...16) + [3, 0, 0, 0] + [0xDD, 0xCC, 0xBB, 0xAA]
    expected += Array(17...32) + [9, 0, 0, 0] + [1, 0, 0, 0]
    expected += [0, 0, 0, 0] + [4, 0, 0, 0] + [1, 0, 0, 0] + [5, 0, 0, 0]
    expected += [4, 0, 0, 0] + [3, 0, 0, 0] + [0, 0, 0, 0] + [0, 0, 0, 0]
    expected += [7, 0, 0, 0] + [3, 0, 0, 0] + [0xFF, 0xFF, 0xFF, 0xFF] + [0, 0, 0, 0]
    expected += withUnsafeBytes(of: Checksum.of(expected).littleEndian) { Array($0) }
    #expect(bytes == expected)
    #expect(try MemoryHeader(decoding: bytes) == sample())
  }

  @Test("a shortened or lengthened header is refused", arguments: [0, 1, 31, 35, 40, 80, -1, -17])
  func size(count: Int) throws {
    let bytes = try sample().encoded()
    let cut = count >= 0 ? Array(bytes.prefix(count)) : bytes + [UInt8](repeating: 0, count: -count)
    #expect(throws: SnapshotFormatError.self) { try MemoryHeader(decoding: cut) }
  }

  @Test("every single flipped bit is detected")
  func flips() throws {
    let bytes = try sample().encoded()
    for bit in 0..<(bytes.count * 8) {
      var damaged = bytes
      damaged[bit / 8] ^= 1 << UInt8(bit % 8)
      #expect(throws: SnapshotFormatError.self) { try MemoryHeader(decoding: damaged) }
    }
  }

  @Test("fields with impossible values are refused even with a right checksum", arguments: Hostile.all)
  func hostile(field: Hostile) throws {
    var bytes = Array(try sample().encoded().dropLast(4))
    bytes.replaceSubrange(field.offset..<(field.offset + field.bytes.count), with: field.bytes)
    bytes += withUnsafeBytes(of: Checksum.of(bytes).littleEndian) { Array($0) }
    let error = #expect(throws: SnapshotFormatError.self) { try MemoryHeader(decoding: bytes) }
    #expect(error == field.error)
  }

  struct Hostile: Sendable, CustomTestStringConvertible {
    let what: String
    let offset: Int
    let bytes: [UInt8]
    let error: SnapshotFormatError

    var testDescription: String { what }

    static let all = [
      Hostile(what: "a newer version", offset: 8, bytes: [2, 0, 0, 0], error: .unsupportedVersion(2)),
      Hostile(what: "another page size", offset: 12, bytes: [0, 0, 0x20, 0], error: .invalid("page size")),
      Hostile(what: "no memory", offset: 16, bytes: [0, 0], error: .invalid("memory size")),
      Hostile(what: "memory that is no whole pages", offset: 16, bytes: [1], error: .invalid("memory size")),
      Hostile(
        what: "memory without end", offset: 16, bytes: [UInt8](repeating: 0xFF, count: 8),
        error: .invalid("memory size")),
      Hostile(
        what: "memory beyond the maximum", offset: 16, bytes: [0, 0, 0, 0, 0x11], error: .invalid("memory size")),
      Hostile(what: "no generation", offset: 24, bytes: [0, 0, 0, 0], error: .wrongSize),
      Hostile(what: "generations without end", offset: 24, bytes: [0xFF, 0xFF, 0xFF, 0xFF], error: .wrongSize),
      Hostile(what: "runs without end", offset: 28, bytes: [0xFF, 0xFF, 0xFF, 0xFF], error: .wrongSize),
      Hostile(what: "one generation twice", offset: 56, bytes: Array(1...16), error: .invalid("list of generations")),
      Hostile(what: "a first run that is not at page 0", offset: 80, bytes: [1, 0, 0, 0], error: .invalid("mapping")),
      Hostile(what: "an empty run", offset: 84, bytes: [0, 0, 0, 0], error: .invalid("mapping")),
      Hostile(what: "a gap", offset: 84, bytes: [3, 0, 0, 0], error: .invalid("mapping")),
      Hostile(what: "an overlap", offset: 84, bytes: [5, 0, 0, 0], error: .invalid("page in its mapping")),
      Hostile(what: "a run beyond the end", offset: 116, bytes: [4, 0, 0, 0], error: .invalid("mapping")),
      Hostile(
        what: "a run that is too short at the end", offset: 116, bytes: [2, 0, 0, 0], error: .invalid("mapping")),
      Hostile(
        what: "a run of 2^32 - 1 pages", offset: 84, bytes: [0xFF, 0xFF, 0xFF, 0xFF], error: .invalid("mapping")),
      Hostile(
        what: "an unknown generation", offset: 88, bytes: [2, 0, 0, 0], error: .invalid("generation in its mapping")),
      Hostile(
        what: "a page beyond the layer", offset: 92, bytes: [6, 0, 0, 0], error: .invalid("page in its mapping")),
      Hostile(
        what: "a page far beyond the layer", offset: 92, bytes: [0xFF, 0xFF, 0xFF, 0xFF],
        error: .invalid("page in its mapping")),
    ]
  }

  @Test("more generations than the format holds are refused")
  func generations() {
    let layers = (0...MemoryGeometry.maximumGenerations).map { _ in
      MemoryHeader.Layer(generation: GenerationID(), pageCount: 1, tableChecksum: 0)
    }
    let runs = layers.indices.map { MemoryRun(start: UInt32($0), count: 1, generation: UInt32($0), layerPage: 0) }
    #expect(throws: SnapshotFormatError.tooManyGenerations(layers.count)) {
      try MemoryHeader(memoryBytes: Int64(4_096 * layers.count), layers: layers, runs: runs)
    }
  }

  @Test("changes over a parent keep only what is still used, and adjacent runs are joined")
  func merge() throws {
    let parentHeader = try MemoryHeader(
      memoryBytes: 8 * 4_096, layers: [.init(generation: parent, pageCount: 8, tableChecksum: 0)],
      runs: [MemoryRun(start: 0, count: 8, generation: 0, layerPage: 0)])
    let layer = MemoryHeader.Layer(generation: own, pageCount: 4, tableChecksum: 9)
    let changed = try MemoryHeader(
      layer: layer, memoryBytes: 8 * 4_096,
      changes: [
        MemoryRun(start: 1, count: 1, generation: 0, layerPage: 0),
        MemoryRun(start: 2, count: 1, generation: 0, layerPage: 1),
        .zeros(4..<5),
      ], parent: parentHeader)
    #expect(changed.layers.map(\.generation) == [own, parent])
    #expect(
      changed.map.runs == [
        MemoryRun(start: 0, count: 1, generation: 1, layerPage: 0),
        MemoryRun(start: 1, count: 2, generation: 0, layerPage: 0),
        MemoryRun(start: 3, count: 1, generation: 1, layerPage: 3), .zeros(4..<5),
        MemoryRun(start: 5, count: 3, generation: 1, layerPage: 5),
      ])
    let cleared = try MemoryHeader(layer: layer, memoryBytes: 8 * 4_096, changes: [.zeros(0..<8)], parent: changed)
    #expect(cleared.layers.map(\.generation) == [own])
    #expect(cleared.map.runs == [.zeros(0..<8)])
  }

  @Test("look-up cost is logarithmic: 64 GiB costs less than twice as much as 64 MiB")
  func lookUp() throws {
    let small = try mostComparisons(memoryBytes: 64 << 20)
    let large = try mostComparisons(memoryBytes: 64 << 30)
    #expect(small >= 1)
    #expect(large <= 2 * small)
  }

  /// The largest number of comparisons of a look-up, in a memory where every eighth page is a run of its own.
  private func mostComparisons(memoryBytes: Int64) throws -> Int {
    let pages = Int(memoryBytes) / 4_096
    let stored = pages / 8
    var runs: [MemoryRun] = []
    for index in 0..<stored {
      runs.append(MemoryRun(start: UInt32(8 * index), count: 1, generation: 0, layerPage: UInt32(index)))
      runs.append(.zeros((8 * index + 1)..<(8 * index + 8)))
    }
    let header = try MemoryHeader(
      memoryBytes: memoryBytes, layers: [.init(generation: own, pageCount: UInt32(stored), tableChecksum: 0)],
      runs: runs)
    var random = Seeded(7)
    var most = 0
    for _ in 0..<2_000 {
      let page = Int.random(in: 0..<pages, using: &random)
      var comparisons = 0
      let run = header.map.runs[header.map.position(of: page, comparisons: &comparisons)]
      #expect(run.pages.contains(page))
      most = max(most, comparisons)
    }
    #expect(Double(most) <= log2(Double(runs.count)).rounded(.up))
    return most
  }
}
