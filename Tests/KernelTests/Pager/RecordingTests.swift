import Foundation
import Glibc
import LinuxSystem
import Model
import Pager
import Snapshots
import SystemPackage
import Testing

@Suite(.serialized) struct RecordingTests {
  static let pages = 4_096

  @Test("the pages that a guest needed first are recorded once and pushed at the next restore")
  func recorded() async throws {
    let fixture = try await PagerFixture()
    let model = GuestModel.mixed(pages: Self.pages, seed: 1)
    let generation = try fixture.generation(model)
    let configuration = try fixture.configuration(generation, records: true)
    let pager = try await fixture.backend.launch(configuration)
    let machine = try await fixture.start(.userfault, in: configuration.runDirectory, memoryBytes: model.memoryBytes)
    for start in [10, 3_000, 1_500] { _ = try await machine.ask("sum \(start) 20") }
    await pager.finishRecording()
    await pager.finishRecording()
    try await eventually("the working set is there") {
      try FileStatus.of(generation.workingSetPath.string, followingLinks: false) != nil
    }
    // Afterwards nothing is recorded, and windows are large.
    #expect(try await machine.ask("sum 0 \(Self.pages)") == model.sum(0..<Self.pages))
    machine.kill()
    #expect(try await pager.waitForExit() == PagerExit(failure: nil))

    let (second, secondPager, _) = try await fixture.restore(generation)
    try await eventually("the working set is pushed") { try await secondPager.statistics().pagesPrefetched > 0 }
    #expect(try await second.ask("sum 3000 20") == model.sum(3_000..<3_020))
    let statistics = try await secondPager.statistics()
    // Recorded in windows of four; zero pages are left out and cost a fault.
    #expect(statistics.pagesPrefetched >= 54 && statistics.pagesPrefetched <= 84)
    #expect(try await second.ask("sum 0 \(Self.pages)") == model.sum(0..<Self.pages))
    second.kill()
    _ = try await secondPager.waitForExit()
  }

  /// What may be at the path of a working set.
  enum Damage: CaseIterable {
    case garbage, otherContent, otherGeneration, cutOff, tooLong, link, directory, pipe
  }

  @Test(
    "a damaged, foreign or irregular working set is ignored, and another is recorded",
    arguments: Damage.allCases)
  func damaged(_ damage: Damage) async throws {
    let fixture = try await PagerFixture()
    let model = GuestModel.mixed(pages: Self.pages, seed: 2)
    let generation = try fixture.generation(model)
    try spoil(generation, damage, in: fixture)
    let (machine, pager, _) = try await fixture.restore(generation)
    #expect(try await machine.ask("sum 0 \(Self.pages)") == model.sum(0..<Self.pages))
    #expect(try await pager.statistics().pagesPrefetched == 0)
    machine.kill()
    #expect(try await pager.waitForExit() == PagerExit(failure: nil))
    guard damage != .directory else { return }
    #expect(try FileStatus.of(generation.workingSetPath.string, followingLinks: false) == nil)
    let configuration = try fixture.configuration(generation, records: true)
    let recorder = try await fixture.backend.launch(configuration)
    let second = try await fixture.start(.userfault, in: configuration.runDirectory, memoryBytes: model.memoryBytes)
    _ = try await second.ask("sum 10 20")
    await recorder.finishRecording()
    let image = try MemoryImage.open(generation, in: fixture.store)
    try await eventually("another is recorded") { WorkingSet.load(generation.workingSetPath, for: image) != nil }
    second.kill()
    _ = try await recorder.waitForExit()
  }

  private func spoil(_ generation: Generation, _ damage: Damage, in fixture: PagerFixture) throws {
    let path = generation.workingSetPath.string
    func write(_ pages: Range<Int>, of other: Generation) throws -> Data {
      try WorkingSet.write(
        Array(pages), of: try MemoryImage.open(other, in: fixture.store), to: generation.workingSetPath)
      return try Data(contentsOf: URL(filePath: path))
    }
    func replace(_ data: Data) throws { try data.write(to: URL(filePath: path)) }
    switch damage {
    case .garbage: try replace(Data(repeating: 1, count: 8_192))
    case .otherContent:
      var data = try write(10..<20, of: generation)
      data[data.count - 1] ^= 1
      try replace(data)
    case .otherGeneration:
      _ = try write(10..<20, of: try fixture.generation(GuestModel.mixed(pages: Self.pages, seed: 9)))
    case .cutOff: try replace(try write(10..<20, of: generation).dropLast(1))
    case .tooLong:
      try replace(Data(repeating: 0, count: 4_096))
      #expect(truncate(path, 1 << 40) == 0)
    case .link: #expect(symlink(generation.memoryPath.string, path) == 0)
    case .directory: #expect(mkdir(path, 0o700) == 0)
    case .pipe: #expect(mkfifo(path, 0o600) == 0)
    }
  }

  @Test("a pager killed while it pushes is replaced, and no page is wrong", arguments: [0, 2, 8])
  func replacedWhilePushing(milliseconds: Int) async throws {
    let fixture = try await PagerFixture()
    var model = GuestModel(pages: 8_192)
    model.write(0..<8_192, seed: 5)
    let generation = try fixture.generation(model)
    try WorkingSet.write(
      Array(0..<8_192), of: try MemoryImage.open(generation, in: fixture.store), to: generation.workingSetPath)
    let (machine, first, configuration) = try await fixture.restore(generation)
    try await Task.sleep(for: .milliseconds(milliseconds))
    try await first.kill()
    async let response = machine.ask("remove 4000 100")
    let second = try await fixture.backend.replace(configuration, vmm: machine.pid)
    #expect(try await response == "ok")
    model.zero(4_000..<4_100)
    #expect(try await machine.ask("race 0 8192 4") == model.sum(0..<8_192))
    let (_, counts) = try await fixture.save(machine, parent: generation)
    #expect(counts.storedPages == 0 && counts.zeroedPages == 100)
    machine.kill()
    #expect(try await second.waitForExit() == PagerExit(failure: nil))
  }

  @Test("the recording is bounded, however much the guest reads")
  func bounded() async throws {
    let fixture = try await PagerFixture()
    var model = GuestModel(pages: 10_240)
    model.write(0..<10_240, seed: 6)
    let generation = try fixture.generation(model)
    let configuration = try fixture.configuration(generation, records: true)
    let pager = try await fixture.backend.launch(configuration)
    let machine = try await fixture.start(.userfault, in: configuration.runDirectory, memoryBytes: model.memoryBytes)
    #expect(try await machine.ask("sum 0 10240") == model.sum(0..<10_240))
    await pager.finishRecording()
    let image = try MemoryImage.open(generation, in: fixture.store)
    try await eventually("the working set is there") { WorkingSet.load(generation.workingSetPath, for: image) != nil }
    #expect(WorkingSet.load(generation.workingSetPath, for: image)?.pageCount == WorkingSet.maximumPages)
    machine.kill()
    _ = try await pager.waitForExit()
  }

  @Test("pages that were pushed and then written are saved as written")
  func savedAfterPush() async throws {
    let fixture = try await PagerFixture()
    var model = GuestModel.mixed(pages: Self.pages, seed: 3)
    let generation = try fixture.generation(model)
    let image = try MemoryImage.open(generation, in: fixture.store)
    try WorkingSet.write(Array(0..<512), of: image, to: generation.workingSetPath)
    let (machine, pager, _) = try await fixture.restore(generation)
    try await eventually("the working set is pushed") { try await pager.statistics().pagesPrefetched > 0 }
    _ = try await machine.ask("write 100 50 9")
    model.write(100..<150, seed: 9)
    let (saved, counts) = try await fixture.save(machine, parent: generation)
    #expect(counts.storedPages == 50)
    try fixture.expectContent(saved, model)
    machine.kill()
    _ = try await pager.waitForExit()
  }
}
