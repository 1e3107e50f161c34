import Concurrency
import Foundation
import LinuxSystem
import Model
import SystemPackage
import Testing

@testable import Snapshots

/// Simulates a crash at every point at which a crash leaves a different state: copies the store's directory there.
@Suite("Crashes and failures in the middle of an operation")
struct CrashTests {
  private static let whilePublishing: [SnapshotObserver.Moment] = [
    .filesSynchronized, .manifestWritten, .draftSynchronized, .generationRenamed, .generationPublished,
  ]
  private static let whileCompacting: [SnapshotObserver.Moment] =
    [.draftMade, .memoryMerged, .deviceStateCopied, .diskMerged] + whilePublishing
  private static let whileCollecting: [SnapshotObserver.Moment] = [.garbageRenamed, .garbageRemoved]

  @Test(
    "a crash at any step of publishing leaves the last good generation, and the new one complete or absent",
    arguments: whilePublishing)
  func publishing(moment: SnapshotObserver.Moment) throws {
    let scenario = try CrashScenario()
    scenario.plan.crash(at: moment, of: scenario.fixture)
    let next = try scenario.saveNext()
    let image = try scenario.crashImage()
    try scenario.check(image, mayHave: next)
    // A draft that was being published can be published again or removed.
    let draft = GenerationDraft(id: next.id, directory: image.draftsDirectory.appending(next.id.uuidString))
    if try image.isPresent(draft.directory) {
      #expect(try image.publish(draft, try scenario.manifest(of: next)).id == next.id)
      try scenario.check(image, mayHave: next)
    }
    #expect(try image.collectAll(roots: [scenario.good.id]) == [next.id])
    try scenario.check(image, mayHave: nil)
  }

  @Test(
    "a failure at any step of publishing leaves the draft, which can be published again or removed",
    arguments: whilePublishing.dropLast(2))
  func failedPublishing(moment: SnapshotObserver.Moment) throws {
    let scenario = try CrashScenario()
    let (draft, manifest) = try scenario.draftNext()
    scenario.plan.fail(at: moment)
    #expect(throws: MartletError.self) { try scenario.fixture.store.publish(draft, manifest) }
    try scenario.check(scenario.fixture.store, mayHave: nil)
    let published = try scenario.fixture.store.publish(draft, manifest)
    #expect(try scenario.fixture.read(published) == scenario.nextMemory)
    try scenario.check(scenario.fixture.store, mayHave: published)
  }

  @Test("a crash at any step of compacting leaves the source generation", arguments: whileCompacting)
  func compacting(moment: SnapshotObserver.Moment) throws {
    let scenario = try CrashScenario()
    let next = try scenario.saveNext()
    scenario.plan.crash(at: moment, of: scenario.fixture)
    let compacted = try scenario.fixture.store.compact(next.id, as: GenerationID(), keeping: [])
    let image = try scenario.crashImage()
    try scenario.check(image, mayHave: next)
    #expect(try scenario.fixture.read(try image.generation(next.id), from: image) == scenario.nextMemory)
    #expect(try image.collectAll(roots: [next.id]).isSubset(of: [compacted.id]))
    #expect(try scenario.fixture.read(try image.generation(next.id), from: image) == scenario.nextMemory)
    #expect(try Directories.names(in: image.draftsDirectory) == [])
  }

  @Test(
    "a failure at any step of compacting leaves no draft, and it can be repeated",
    arguments: whileCompacting.dropLast(2))
  func failedCompacting(moment: SnapshotObserver.Moment) throws {
    let scenario = try CrashScenario()
    let next = try scenario.saveNext()
    scenario.plan.fail(at: moment)
    let new = GenerationID()
    #expect(throws: MartletError.self) { try scenario.fixture.store.compact(next.id, as: new, keeping: []) }
    // The failure removes the draft if it was begun; a failure to begin leaves an empty draft for the next collection.
    if moment == .draftMade { _ = try scenario.fixture.collect(roots: [next.id], drafts: []) }
    #expect(try Directories.names(in: scenario.fixture.store.draftsDirectory) == [])
    #expect(
      try scenario.fixture.read(try scenario.fixture.store.compact(next.id, as: new, keeping: []))
        == scenario.nextMemory)
  }

  @Test(
    "a crash at any step of collecting removes nothing that is needed, and the next collection continues",
    arguments: whileCollecting)
  func collecting(moment: SnapshotObserver.Moment) throws {
    let scenario = try CrashScenario()
    let next = try scenario.saveNext()
    let draft = try scenario.fixture.store.begin(GenerationID())
    scenario.plan.crash(at: moment, of: scenario.fixture)
    #expect(try scenario.fixture.collect(roots: [scenario.good.id], drafts: []) == [next.id, draft.id])
    let image = try scenario.crashImage()
    try scenario.check(image, mayHave: nil)
    #expect(try image.collectAll(roots: [scenario.good.id]) == [])
    try scenario.check(image, mayHave: nil)
    #expect(try Directories.names(in: image.trashDirectory) == [])
    let error = #expect(throws: MartletError.self) { try image.generation(next.id) }
    #expect(error?.code == .notFound)
  }
}

/// A good generation, and the draft of the next one.
private struct CrashScenario {
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

  /// Opens a copy of the store in its state at the crash.
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
