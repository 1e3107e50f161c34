import Concurrency
import Foundation
import LinuxSystem
import Model
import SystemPackage
import Testing

@testable import Snapshots

/// What a crash leaves, at every moment at which it leaves something different: a copy of the store's directory, taken
/// then.
@Suite("Crashes and failures in the middle")
struct CrashTests {
  private static let whilePublishing: [SnapshotObserver.Moment] = [
    .filesSynchronized, .manifestWritten, .draftSynchronized, .generationRenamed, .generationPublished,
  ]
  private static let whileCompacting: [SnapshotObserver.Moment] =
    [.draftMade, .memoryMerged, .deviceStateCopied, .diskMerged] + whilePublishing
  private static let whileCollecting: [SnapshotObserver.Moment] = [.garbageRenamed, .garbageRemoved]

  @Test(
    "A crash at any step of publishing leaves the last good generation, and the new one whole or not at all",
    arguments: whilePublishing)
  func publishing(moment: SnapshotObserver.Moment) throws {
    let world = try World()
    world.plan.crash(at: moment, of: world.fixture)
    let next = try world.saveNext()
    let image = try world.crashImage()
    try world.check(image, mayHave: next)
    // What was on its way to become a generation can be finished, or removed.
    let draft = GenerationDraft(id: next.id, directory: image.draftsDirectory.appending(next.id.uuidString))
    if try image.isPresent(draft.directory) {
      #expect(try image.publish(draft, try world.manifest(of: next)).id == next.id)
      try world.check(image, mayHave: next)
    }
    #expect(try image.collectAll(roots: [world.good.id]) == [next.id])
    try world.check(image, mayHave: nil)
  }

  @Test(
    "A failure at any step of publishing leaves the draft, which can be published again or removed",
    arguments: whilePublishing.dropLast(2))
  func failedPublishing(moment: SnapshotObserver.Moment) throws {
    let world = try World()
    let (draft, manifest) = try world.draftNext()
    world.plan.fail(at: moment)
    #expect(throws: MartletError.self) { try world.fixture.store.publish(draft, manifest) }
    try world.check(world.fixture.store, mayHave: nil)
    let published = try world.fixture.store.publish(draft, manifest)
    #expect(try world.fixture.read(published) == world.nextMemory)
    try world.check(world.fixture.store, mayHave: published)
  }

  @Test("A crash at any step of compacting leaves the compacted generation's source", arguments: whileCompacting)
  func compacting(moment: SnapshotObserver.Moment) throws {
    let world = try World()
    let next = try world.saveNext()
    world.plan.crash(at: moment, of: world.fixture)
    let compacted = try world.fixture.store.compact(next.id, as: GenerationID(), keeping: [])
    let image = try world.crashImage()
    try world.check(image, mayHave: next)
    #expect(try world.fixture.read(try image.generation(next.id), from: image) == world.nextMemory)
    #expect(try image.collectAll(roots: [next.id]).isSubset(of: [compacted.id]))
    #expect(try world.fixture.read(try image.generation(next.id), from: image) == world.nextMemory)
    #expect(try Directories.names(in: image.draftsDirectory) == [])
  }

  @Test(
    "A failure at any step of compacting leaves no draft, and it can be tried again",
    arguments: whileCompacting.dropLast(2))
  func failedCompacting(moment: SnapshotObserver.Moment) throws {
    let world = try World()
    let next = try world.saveNext()
    world.plan.fail(at: moment)
    let new = GenerationID()
    #expect(throws: MartletError.self) { try world.fixture.store.compact(next.id, as: new, keeping: []) }
    // Once begun the failure removes it; a failure to begin leaves an empty draft to the next collection.
    if moment == .draftMade { _ = try world.fixture.collect(roots: [next.id], drafts: []) }
    #expect(try Directories.names(in: world.fixture.store.draftsDirectory) == [])
    #expect(try world.fixture.read(try world.fixture.store.compact(next.id, as: new, keeping: [])) == world.nextMemory)
  }

  @Test(
    "A crash at any step of collecting removes nothing that is needed, and the next collection goes on",
    arguments: whileCollecting)
  func collecting(moment: SnapshotObserver.Moment) throws {
    let world = try World()
    let next = try world.saveNext()
    let draft = try world.fixture.store.begin(GenerationID())
    world.plan.crash(at: moment, of: world.fixture)
    #expect(try world.fixture.collect(roots: [world.good.id], drafts: []) == [next.id, draft.id])
    let image = try world.crashImage()
    try world.check(image, mayHave: nil)
    #expect(try image.collectAll(roots: [world.good.id]) == [])
    try world.check(image, mayHave: nil)
    #expect(try Directories.names(in: image.trashDirectory) == [])
    let error = #expect(throws: MartletError.self) { try image.generation(next.id) }
    #expect(error?.code == .notFound)
  }
}

/// A good generation, and the next one on its way.
private struct World {
  let plan = FaultPlan()
  let fixture: Fixture
  let good: Generation
  private let memory: PlainMemory
  let nextMemory: PlainMemory

  init() throws {
    let plan = plan
    fixture = try Fixture(observer: SnapshotObserver { try plan.reached($0) })
    var random = Seeded(71)
    var memory = PlainMemory(pages: 16)
    for page in 0..<10 { memory[page] = random.page() }
    good = try fixture.save(memory, dirty: [0..<16])
    self.memory = memory
    memory[3] = random.page()
    memory[4] = [UInt8](repeating: 0, count: PlainMemory.pageBytes)
    nextMemory = memory
  }

  func draftNext() throws -> (GenerationDraft, GenerationManifest) {
    try fixture.draft(nextMemory, dirty: [3..<5], parent: good)
  }

  func saveNext() throws -> Generation {
    let (draft, manifest) = try draftNext()
    return try fixture.store.publish(draft, manifest)
  }

  func manifest(of generation: Generation) throws -> GenerationManifest {
    try fixture.manifest(generation.id, memoryBytes: generation.manifest.memoryBytes, parent: good.id)
  }

  /// The store as a new process finds it after the crash.
  func crashImage() throws -> SnapshotStore {
    SnapshotStore(directory: try #require(plan.image), logger: Fixture.logger)
  }

  func check(_ store: SnapshotStore, mayHave next: Generation?) throws {
    let opened = try store.generation(good.id)
    try store.verify(opened)
    #expect(opened.manifest == good.manifest)
    #expect(try fixture.read(opened, from: store) == memory)
    for other in try store.generations() where other.id != good.id {
      if let next, other.id == next.id {
        try store.verify(other)
        #expect(try fixture.read(other, from: store) == nextMemory)
      } else {
        #expect(next != nil)
        #expect(try fixture.read(other, from: store) == nextMemory)
      }
    }
  }
}

private final class FaultPlan: Sendable {
  private enum Fault {
    case crash(store: FilePath, image: FilePath)
    case failure
  }

  private struct State {
    var moment: SnapshotObserver.Moment?
    var fault = Fault.failure
    var image: FilePath?
  }

  private let state = Mutex(State())

  var image: FilePath? { state.withLock { $0.image } }

  func crash(at moment: SnapshotObserver.Moment, of fixture: Fixture) {
    let image = fixture.directory.appending("crashed")
    state.withLock { $0 = State(moment: moment, fault: .crash(store: fixture.store.directory, image: image)) }
  }

  func fail(at moment: SnapshotObserver.Moment) {
    state.withLock { $0 = State(moment: moment, fault: .failure) }
  }

  func reached(_ moment: SnapshotObserver.Moment) throws {
    let fault: Fault? = state.withLock { state in
      guard state.moment == moment else { return nil }
      state.moment = nil
      return state.fault
    }
    switch fault {
    case .failure: throw MartletError(.internalError, "a planned failure")
    case .crash(let store, let image):
      try FileManager.default.copyItem(atPath: store.string, toPath: image.string)
      state.withLock { $0.image = image }
    case nil: break
    }
  }
}
