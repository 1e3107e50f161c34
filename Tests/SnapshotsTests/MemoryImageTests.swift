import Foundation
import LinuxSystem
import Model
import SystemPackage
import Testing

@testable import Snapshots

@Suite("Memory layers")
struct MemoryImageTests {
  @Test("stored, zero and untouched pages are read back, over several generations")
  func generations() throws {
    let fixture = try Fixture()
    var random = Seeded(2)
    var memory = PlainMemory(pages: 64)
    for page in 3..<20 { memory[page] = random.page() }
    let first = try fixture.save(memory, dirty: [0..<64])
    #expect(try fixture.read(first) == memory)
    memory[4] = random.page()
    memory[5] = [UInt8](repeating: 0, count: 4_096)
    memory[60] = random.page()
    let second = try fixture.save(memory, dirty: [4..<7, 60..<61], parent: first)
    #expect(try fixture.read(second) == memory)
    let image = try MemoryImage.open(second, in: fixture.store)
    #expect(image.layers.map(\.generation) == [second.id, first.id])
    #expect(image.layers.map(\.pageCount) == [2, 17])
  }

  @Test("a page that became zero is zero, although its parent has data")
  func becameZero() throws {
    let fixture = try Fixture()
    var random = Seeded(3)
    var memory = PlainMemory(pages: 16)
    for page in 0..<16 { memory[page] = random.page() }
    let first = try fixture.save(memory, dirty: [0..<16])
    memory[7] = [UInt8](repeating: 0, count: 4_096)
    for range in 10..<12 { memory[range] = [UInt8](repeating: 0, count: 4_096) }
    let second = try fixture.save(memory, dirty: [7..<8], zero: [10..<12], parent: first)
    #expect(try fixture.read(second) == memory)
    guard case .zero = try MemoryImage.open(second, in: fixture.store).source(of: 7) else {
      Issue.record("page 7 is not mapped to zero")
      return
    }
  }

  @Test("each page is classified once: stored, zeroed or equal, and the layer holds only stored ones")
  func counts() throws {
    let fixture = try Fixture()
    var random = Seeded(4)
    var memory = PlainMemory(pages: 600)
    for page in 0..<500 { memory[page] = random.page() }
    let first = try fixture.save(memory, dirty: [0..<600])
    memory[10] = random.page()
    for page in 400..<450 { memory[page] = [UInt8](repeating: 0, count: 4_096) }
    let parent = try MemoryImage.open(first, in: fixture.store)
    let draft = try fixture.store.begin(GenerationID())
    let writer = try MemoryLayerWriter(draft, memoryBytes: Int64(memory.bytes.count), parent: parent)
    try fixture.append(0..<100, of: memory, to: writer)
    try fixture.append(390..<420, of: memory, to: writer)
    try writer.markZero(420..<450)
    try writer.markZero(550..<560)
    let counts = try writer.finish()
    #expect(counts == .init(stored: 1, zeroed: 50, equal: 99 + 10 + 10))
    let size = try FileStatus.of(draft.memoryPath.string, followingLinks: false)?.sizeBytes
    #expect(size == 8_196)
  }

  @Test("runs larger than the buffer and single pages can be mixed")
  func buffering() throws {
    let fixture = try Fixture()
    var random = Seeded(5)
    var memory = PlainMemory(pages: 1_000)
    for page in 0..<1_000 where page % 97 != 0 { memory[page] = random.page() }
    let dirty = [0..<1, 1..<60, 60..<62, 62..<400, 400..<401, 401..<1_000]
    let generation = try fixture.save(memory, dirty: dirty)
    #expect(try fixture.read(generation) == memory)
  }

  @Test("the extents of a window cover it exactly and agree with single look-ups")
  func windows() throws {
    let fixture = try Fixture()
    var random = Seeded(6)
    var memory = PlainMemory(pages: 128)
    for page in 0..<128 where page % 5 < 3 { memory[page] = random.page() }
    let generation = try fixture.save(memory, dirty: [0..<128])
    let image = try MemoryImage.open(generation, in: fixture.store)
    for window in [0..<128, 0..<1, 3..<9, 127..<128, 50..<50, 64..<128] {
      var next = window.lowerBound
      for extent in image.extents(in: window) {
        #expect(extent.pages.lowerBound == next)
        next = extent.pages.upperBound
        for page in extent.pages {
          #expect(bytes(image.source(of: page)) == memory[page])
          #expect(image.verify(page))
        }
      }
      #expect(next == window.upperBound)
    }
  }

  private func bytes(_ source: MemoryExtent.Source) -> [UInt8] {
    guard case .stored(let stored) = source else { return [UInt8](repeating: 0, count: 4_096) }
    #expect(stored.checksum(at: 0) == Checksum.of(stored.bytes))
    return Array(stored.bytes)
  }

  @Test("pages out of order, beyond the end or of another size are refused")
  func order() throws {
    let fixture = try Fixture()
    let memory = PlainMemory(pages: 8)
    let writer = try MemoryLayerWriter(try fixture.store.begin(GenerationID()), memoryBytes: 8 * 4_096, parent: nil)
    try fixture.append(2..<4, of: memory, to: writer)
    #expect(throws: MartletError.self) { try fixture.append(3..<4, of: memory, to: writer) }
    #expect(throws: MartletError.self) { try writer.markZero(6..<9) }
    #expect(throws: MartletError.self) { try writer.append(UnsafeRawBufferPointer(start: nil, count: 0), at: 9) }
    let parent = try MemoryImage.open(try fixture.save(memory, dirty: []), in: fixture.store)
    for size: Int64 in [0, -4_096, 4_095, 7 * 4_096, (64 << 30) + 4_096] {
      let draft = try fixture.store.begin(GenerationID())
      #expect(throws: MartletError.self) { try MemoryLayerWriter(draft, memoryBytes: size, parent: parent) }
    }
  }

  @Test("a damaged page is detected, and the error names the generation that holds it")
  func damage() throws {
    let fixture = try Fixture()
    var random = Seeded(8)
    var memory = PlainMemory(pages: 8)
    for page in 0..<8 { memory[page] = random.page() }
    let first = try fixture.save(memory, dirty: [0..<8])
    memory[2] = random.page()
    let second = try fixture.save(memory, dirty: [2..<3], parent: first)
    try flip(bit: (4_096 * 6 + 77) * 8, in: first.memoryPath.string)
    let image = try MemoryImage.open(second, in: fixture.store)
    #expect(image.firstDamaged(in: 0..<8) == 5)
    #expect(!image.verify(5))
    #expect(image.verify(2))
    let error = image.damage(at: 5)
    #expect(error.code == .snapshotDamaged)
    #expect(error.message.contains("\(first.id)") && error.message.contains("memory.layer"))
  }
}

func flip(bit: Int, in path: String) throws {
  let handle = try FileHandle(forUpdating: URL(fileURLWithPath: path))
  try handle.seek(toOffset: UInt64(bit / 8))
  guard let byte = try handle.read(upToCount: 1)?.first else { return }
  try handle.seek(toOffset: UInt64(bit / 8))
  try handle.write(contentsOf: Data([byte ^ 1 << UInt8(bit % 8)]))
  try handle.close()
}
