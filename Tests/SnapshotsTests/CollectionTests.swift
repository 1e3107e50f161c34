import Foundation
import LinuxSystem
import Model
import SystemPackage
import Testing

@testable import Snapshots

@Suite("Collecting garbage")
struct CollectionTests {
  /// Three generations, each with a page of its own that the later ones still use.
  private func chain(_ fixture: Fixture) throws -> [Generation] {
    var random = Seeded(51)
    var memory = PlainMemory(pages: 8)
    var chain: [Generation] = []
    for page in 0..<3 {
      memory[page] = random.page()
      chain.append(try fixture.save(memory, dirty: [page..<(page + 1)], parent: chain.last))
    }
    return chain
  }

  @Test("what a root needs stays, over any number of generations")
  func needed() throws {
    let fixture = try Fixture()
    let chain = try chain(fixture)
    #expect(try fixture.collect(roots: [chain[2].id], drafts: []) == [])
    #expect(try fixture.store.generations().count == 3)
    #expect(try fixture.collect(roots: [chain[1].id], drafts: []) == [chain[2].id])
    #expect(try fixture.collect(roots: [chain[1].id], drafts: []) == [])
    #expect(try fixture.collect(roots: [], drafts: []) == [chain[0].id, chain[1].id])
    for directory in [fixture.store.generationsDirectory, fixture.store.draftsDirectory, fixture.store.trashDirectory] {
      #expect(try Directories.names(in: directory) == [])
    }
  }

  @Test("a parent that a compacted generation no longer needs is removed")
  func compacted() throws {
    let fixture = try Fixture()
    let chain = try chain(fixture)
    let memory = try fixture.read(chain[2])
    let compacted = try fixture.store.compact(chain[2].id, as: GenerationID(), keeping: [chain[0].id])
    #expect(try fixture.collect(roots: [compacted.id], drafts: []) == [chain[1].id, chain[2].id])
    #expect(try fixture.read(fixture.store.generation(compacted.id)) == memory)
    #expect(compacted.manifest.needs == [compacted.id, chain[0].id])
  }

  @Test("drafts in use stay, others are removed; an id in drafts also protects its published generation")
  func drafts() throws {
    let fixture = try Fixture()
    let (one, manifest) = try fixture.draft(PlainMemory(pages: 4), dirty: [])
    let other = try fixture.store.begin(GenerationID())
    #expect(try fixture.collect(roots: [], drafts: [one.id]) == [other.id])
    let published = try fixture.store.publish(one, manifest)
    #expect(try fixture.collect(roots: [], drafts: [one.id]) == [])
    #expect(try fixture.store.generation(one.id) == published)
    #expect(try fixture.collect(roots: [one.id], drafts: []) == [])
  }

  @Test("while a root is unreadable no generation is removed; unused drafts are")
  func damagedRoot() throws {
    let fixture = try Fixture()
    let chain = try chain(fixture)
    try flip(bit: 99, in: chain[2].path(of: .manifest).string)
    let draft = try fixture.store.begin(GenerationID())
    #expect(try fixture.collect(roots: [chain[2].id], drafts: []) == [draft.id])
    #expect(try Directories.names(in: fixture.store.generationsDirectory).count == 3)
    #expect(try fixture.collect(roots: [chain[0].id], drafts: []) == [chain[1].id, chain[2].id])
  }

  @Test("what appears after the caller's listing is not removed")
  func candidates() throws {
    let fixture = try Fixture()
    let before = try fixture.store.identifiers()
    let draft = try fixture.store.begin(GenerationID())
    let generation = try fixture.save(PlainMemory(pages: 4), dirty: [])
    #expect(try fixture.store.collectGarbage(roots: [], drafts: [], among: before) == [])
    #expect(try fixture.collect(roots: []) == [draft.id, generation.id])
  }

  @Test("foreign names stay, and an absent root needs nothing")
  func foreign() throws {
    let fixture = try Fixture()
    let chain = try chain(fixture)
    try Directories.create(fixture.store.generationsDirectory.appending("lost+found"))
    try Directories.create(fixture.store.generationsDirectory.appending(chain[0].id.uuidString.uppercased()))
    #expect(try fixture.collect(roots: [GenerationID()], drafts: []).count == 3)
    #expect(try Directories.names(in: fixture.store.generationsDirectory).count == 2)
    #expect(try SnapshotStore(directory: FilePath("/nonexistent"), logger: Fixture.logger).collectAll(roots: []) == [])
  }
}
