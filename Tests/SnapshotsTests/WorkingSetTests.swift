import Foundation
import LinuxSystem
import Model
import SystemPackage
import Testing

@testable import Snapshots

@Suite("Working sets")
struct WorkingSetTests {
  private func subject() throws -> (Fixture, Generation, PlainMemory) {
    let fixture = try Fixture()
    var random = Seeded(41)
    var memory = PlainMemory(pages: 32)
    for page in 0..<24 { memory[page] = random.page() }
    let first = try fixture.save(memory, dirty: [0..<32])
    for page in 8..<12 { memory[page] = random.page() }
    return (fixture, try fixture.save(memory, dirty: [8..<12], parent: first), memory)
  }

  @Test("pages are read back in ordered runs, each once; zero pages and absent pages are left out")
  func roundTrip() throws {
    let (fixture, generation, memory) = try subject()
    let image = try MemoryImage.open(generation, in: fixture.store)
    let count = try WorkingSet.write([9, 3, 4, 4, 30, 7, 8, 10, 999, -1], of: image, to: generation.workingSetPath)
    #expect(count == 6)
    let set = try #require(WorkingSet.load(generation.workingSetPath, for: image))
    #expect(set.pageCount == 6)
    var seen: [Range<Int>] = []
    set.forEachRun { pages, bytes in
      seen.append(pages)
      #expect(Array(bytes) == pages.flatMap { memory[$0] })
    }
    #expect(seen == [3..<5, 7..<11])
  }

  @Test("the first bytes of the file are where the format says")
  func annotated() {
    let layout = WorkingSetLayout([5, 2, 3])
    let head = layout.encodedHead()
    #expect(head.count == 4_096)
    var expected: [UInt8] = Array("MARTLETW".utf8) + [1, 0, 0, 0] + [0, 0x10, 0, 0] + [2, 0, 0, 0] + [3, 0, 0, 0]
    expected += [2, 0, 0, 0] + [2, 0, 0, 0] + [5, 0, 0, 0] + [1, 0, 0, 0]
    #expect(Array(head.prefix(expected.count)) == expected)
    #expect(
      Array(head.suffix(4)) == withUnsafeBytes(of: Checksum.of(Array(head.dropLast(4))).littleEndian) { Array($0) })
  }

  @Test("a working set is replaced as a whole and leaves no other file")
  func replaced() throws {
    let (fixture, generation, _) = try subject()
    let image = try MemoryImage.open(generation, in: fixture.store)
    try WorkingSet.write([1, 2, 3], of: image, to: generation.workingSetPath)
    try WorkingSet.write([8], of: image, to: generation.workingSetPath)
    #expect(WorkingSet.load(generation.workingSetPath, for: image)?.pageCount == 1)
    #expect(try Directories.names(in: generation.directory).count == 6)
    try WorkingSet.write([PageIndex](), of: image, to: generation.workingSetPath)
    #expect(WorkingSet.load(generation.workingSetPath, for: image)?.pageCount == 0)
  }

  @Test("a working set of another memory is ignored")
  func other() throws {
    let (fixture, generation, memory) = try subject()
    let image = try MemoryImage.open(generation, in: fixture.store)
    try WorkingSet.write([1, 9], of: image, to: generation.workingSetPath)
    var changed = memory
    changed[9][100] ^= 1
    let next = try fixture.save(changed, dirty: [9..<10], parent: generation)
    try FileManager.default.copyItem(atPath: generation.workingSetPath.string, toPath: next.workingSetPath.string)
    #expect(WorkingSet.load(next.workingSetPath, for: try MemoryImage.open(next, in: fixture.store)) == nil)
    #expect(WorkingSet.load(FilePath("/nonexistent"), for: image) == nil)
    var zeroed = memory
    zeroed[9] = [UInt8](repeating: 0, count: 4_096)
    let zero = try fixture.save(zeroed, dirty: [9..<10], parent: generation)
    #expect(WorkingSet.load(generation.workingSetPath, for: try MemoryImage.open(zero, in: fixture.store)) == nil)
  }

  @Test(
    "hostile heads with a right checksum are ignored",
    arguments: [
      (16, [9, 0, 0, 0]), (16, [0xFF, 0xFF, 0xFF, 0xFF]), (20, [0xFF, 0xFF, 0xFF, 0xFF]), (20, [4, 0, 0, 0]),
      (24, [6, 0, 0, 0]),
      (28, [0, 0, 0, 0]), (28, [0xFF, 0xFF, 0xFF, 0xFF]), (32, [0xFF, 0xFF, 0xFF, 0xFF]), (32, [3, 0, 0, 0]),
      (8, [2, 0, 0, 0]),
      (12, [0, 0x20, 0, 0]),
    ] as [(Int, [UInt8])])
  func hostile(offset: Int, bytes: [UInt8]) {
    var head = Array(WorkingSetLayout([2, 3, 5]).encodedHead().dropLast(4))
    head.replaceSubrange(offset..<(offset + 4), with: bytes)
    head += withUnsafeBytes(of: Checksum.of(head).littleEndian) { Array($0) }
    let file = head + [UInt8](repeating: 0, count: 3 * 4_096)
    #expect(file.withUnsafeBytes { WorkingSetLayout(decoding: $0, pageCount: 32) } == nil)
  }

  @Test("a damaged page is not written into a working set")
  func damaged() throws {
    let (fixture, generation, _) = try subject()
    try flip(bit: (4_096 * 2 + 5) * 8, in: generation.memoryPath.string)
    let image = try MemoryImage.open(generation, in: fixture.store)
    let error = #expect(throws: MartletError.self) {
      try WorkingSet.write([9], of: image, to: generation.workingSetPath)
    }
    #expect(error?.code == .snapshotDamaged)
    #expect(try fixture.store.isPresent(generation.workingSetPath) == false)
  }

  @Test("compaction copies the working set")
  func compacted() throws {
    let (fixture, generation, _) = try subject()
    let image = try MemoryImage.open(generation, in: fixture.store)
    try WorkingSet.write([1, 9, 10], of: image, to: generation.workingSetPath)
    let compacted = try fixture.store.compact(generation.id, as: GenerationID(), keeping: [])
    #expect(
      WorkingSet.load(compacted.workingSetPath, for: try MemoryImage.open(compacted, in: fixture.store))?.pageCount == 3
    )
  }
}
