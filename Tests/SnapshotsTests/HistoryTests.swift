import Foundation
import LinuxSystem
import Model
import Testing

@testable import Snapshots

/// A random history of pauses, forks, compactions and collections, with the expected bytes of every generation.
@Suite("A long history of generations")
struct HistoryTests {
  private static let pages = 192

  @Test(
    "after 40 generations with writes, zeros, compactions and collections every byte is right",
    arguments: [1, 2, 3])
  func history(seed: UInt64) throws {
    var history = History(fixture: try Fixture(), seed: seed, pages: Self.pages)
    for step in 0..<40 {
      try history.save()
      if step % 7 == 5 { try history.compact() }
      if step % 9 == 8 { try history.collect() }
      try history.checkNewest()
    }
    try history.checkAll()
    #expect(history.compactions >= 4 && history.removed > 0)
  }
}

private struct History {
  private let fixture: Fixture
  private var random: Seeded
  private let pages: Int
  /// The existing generations, oldest first, with their expected content.
  private var alive: [(generation: Generation, memory: PlainMemory)] = []
  private(set) var compactions = 0
  private(set) var removed = 0

  init(fixture: Fixture, seed: UInt64, pages: Int) {
    self.fixture = fixture
    self.pages = pages
    random = Seeded(seed)
  }

  /// The next pause: mostly of the newest generation, sometimes of a fork of an older one.
  mutating func save() throws {
    let parent = Int.random(in: 0..<4, using: &random) == 0 ? alive.randomElement(using: &random) : alive.last
    var memory = parent?.memory ?? PlainMemory(pages: pages)
    var dirty: [Range<Int>] = []
    var zero: [Range<Int>] = []
    var page = 0
    while page < pages {
      let range = page..<min(pages, page + Int.random(in: 1...12, using: &random))
      page = range.upperBound
      change(range, of: &memory, &dirty, &zero)
    }
    let generation = try fixture.save(memory, dirty: dirty, zero: zero, parent: parent?.generation)
    alive.append((generation, memory))
  }

  private mutating func change(
    _ range: Range<Int>, of memory: inout PlainMemory, _ dirty: inout [Range<Int>], _ zero: inout [Range<Int>]
  ) {
    let blank = [UInt8](repeating: 0, count: PlainMemory.pageBytes)
    switch Int.random(in: 0..<8, using: &random) {
    case 0, 1:
      for page in range { memory[page] = random.page() }
      dirty.append(range)
    case 2:
      for page in range { memory[page] = blank }
      dirty.append(range)
    case 3:
      for page in range { memory[page] = blank }
      zero.append(range)
    case 4:
      // Written with the same content: dirty, but equal.
      dirty.append(range)
    case 5:
      for page in range where page % 2 == 0 { memory[page] = random.page() }
      for page in range where page % 3 == 0 { memory[page] = blank }
      dirty.append(range)
    default:
      break
    }
  }

  mutating func compact() throws {
    guard let newest = alive.last else { return }
    let needs = newest.generation.manifest.needs.subtracting([newest.generation.id])
    let kept = needs.filter { _ in Bool.random(using: &random) }
    let compacted = try fixture.store.compact(newest.generation.id, as: GenerationID(), keeping: kept)
    #expect(compacted.manifest.needs.subtracting([compacted.id]).isSubset(of: kept))
    #expect(try fixture.store.chainLength(of: compacted.id) <= kept.count + 1)
    alive[alive.count - 1] = (compacted, newest.memory)
    compactions += 1
  }

  /// Removes some of the older generations.
  mutating func collect() throws {
    let newest = alive.count - 1
    alive = alive.enumerated().filter { $0.offset == newest || Bool.random(using: &random) }.map(\.element)
    let roots = Set(alive.map(\.generation.id))
    let before = try Directories.names(in: fixture.store.generationsDirectory).count
    let gone = try fixture.collect(roots: roots, drafts: [])
    #expect(gone.isDisjoint(with: roots))
    #expect(try Directories.names(in: fixture.store.generationsDirectory).count == before - gone.count)
    removed += gone.count
    try checkAll()
  }

  func checkNewest() throws {
    guard let newest = alive.last else { return }
    #expect(try fixture.store.generation(newest.generation.id) == newest.generation)
    #expect(try fixture.read(newest.generation) == newest.memory)
  }

  func checkAll() throws {
    for (generation, memory) in alive {
      let opened = try fixture.store.generation(generation.id)
      try fixture.store.verify(opened)
      #expect(try fixture.read(opened) == memory)
    }
  }
}
