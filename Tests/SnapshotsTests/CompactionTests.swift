import Foundation
import LinuxSystem
import Model
import SystemPackage
import Testing

@testable import Snapshots

@Suite("Compaction")
struct CompactionTests {
  private func chain(_ fixture: Fixture) throws -> ([Generation], PlainMemory) {
    var random = Seeded(61)
    var memory = PlainMemory(pages: 400)
    for page in 0..<300 { memory[page] = random.page() }
    var chain = [try fixture.save(memory, dirty: [0..<400])]
    for step in 1..<5 {
      for page in stride(from: step, to: 400, by: 9) { memory[page] = random.page() }
      chain.append(try fixture.save(memory, dirty: [0..<400], parent: chain.last))
    }
    return (chain, memory)
  }

  @Test("with nothing kept there is one layer with every page in order, and devices and disk are unchanged")
  func all() throws {
    let fixture = try Fixture()
    let (chain, memory) = try chain(fixture)
    let compacted = try fixture.store.compact(chain[4].id, as: GenerationID(), keeping: [])
    #expect(try fixture.read(compacted) == memory)
    #expect(compacted.manifest.needs == [compacted.id])
    #expect(try fixture.store.chainLength(of: compacted.id) == 1)
    for file in ["device.state", "disk.layer"] {
      #expect(compacted.manifest.digests[file] == chain[4].manifest.digests[file])
    }
    let image = try MemoryImage.open(compacted, in: fixture.store)
    var next = 0
    for extent in image.extents(in: 0..<400) {
      guard case .stored(let stored) = extent.source else { continue }
      #expect(stored.firstPage == next)
      next += stored.count
    }
    #expect(next == image.layers[0].pageCount)
    try fixture.store.verify(try fixture.store.generation(compacted.id))
  }

  @Test("pages of kept generations are referred to, not copied")
  func kept() throws {
    let fixture = try Fixture()
    let (chain, memory) = try chain(fixture)
    let compacted = try fixture.store.compact(chain[4].id, as: GenerationID(), keeping: [chain[0].id, chain[3].id])
    #expect(try fixture.read(compacted) == memory)
    #expect(compacted.manifest.needs == [compacted.id, chain[0].id, chain[3].id])
    let before = try MemoryImage.open(chain[4], in: fixture.store)
    let after = try MemoryImage.open(compacted, in: fixture.store)
    let merged = before.layers.filter { ![chain[0].id, chain[3].id].contains($0.generation) }
    #expect(after.layers[0].pageCount <= merged.reduce(0) { $0 + $1.pageCount })
  }

  @Test("compaction refuses a damaged page by name and leaves nothing behind")
  func damaged() throws {
    let fixture = try Fixture()
    let (chain, _) = try chain(fixture)
    try flip(bit: (4_096 * 40 + 9) * 8, in: chain[2].memoryPath.string)
    let error = #expect(throws: MartletError.self) {
      try fixture.store.compact(chain[4].id, as: GenerationID(), keeping: [])
    }
    #expect(error?.code == .snapshotDamaged)
    #expect(error?.message.contains("\(chain[2].id)") == true)
    #expect(try Directories.names(in: fixture.store.draftsDirectory) == [])
    #expect(try fixture.store.generations().count == 5)
  }

  @Test("compaction refuses damaged devices")
  func damagedDevices() throws {
    let fixture = try Fixture()
    let (chain, _) = try chain(fixture)
    try flip(bit: 12, in: chain[4].devicePath.string)
    let error = #expect(throws: MartletError.self) {
      try fixture.store.compact(chain[4].id, as: GenerationID(), keeping: [])
    }
    #expect(error?.code == .snapshotDamaged)
  }

  @Test("compacting an unknown generation is not_found")
  func unknown() throws {
    let error = #expect(throws: MartletError.self) {
      try Fixture().store.compact(GenerationID(), as: GenerationID(), keeping: [])
    }
    #expect(error?.code == .notFound)
  }

  @Test("a collection during a compaction removes nothing that it needs")
  func collection() throws {
    let box = StoreBox()
    let fixture = try Fixture(
      observer: SnapshotObserver { moment in
        if [.memoryMerged, .diskMerged, .draftSynchronized].contains(moment) { try box.collectWithoutRoots() }
      })
    let (chain, memory) = try chain(fixture)
    box.store = fixture.store
    let compacted = try fixture.store.compact(chain[4].id, as: GenerationID(), keeping: [])
    box.store = nil
    #expect(try fixture.read(compacted) == memory)
  }
}

/// Passes a store to an observer that is created before it.
private final class StoreBox: @unchecked Sendable {
  // Used on one thread only.
  var store: SnapshotStore?

  func collectWithoutRoots() throws {
    #expect(try store?.collectAll(roots: []) ?? [] == [])
  }
}
