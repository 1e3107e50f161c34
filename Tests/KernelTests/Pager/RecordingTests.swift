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

  @Test("what a guest needed first is recorded once, and there before it asks the next time (UF-2)")
  func recorded() async throws {
    let laboratory = try await Laboratory()
    let model = GuestModel.mixed(pages: Self.pages, seed: 1)
    let generation = try laboratory.generation(model)
    let configuration = try laboratory.configuration(generation, records: true)
    let pager = try await laboratory.backend.launch(configuration)
    let machine = try await laboratory.start(.userfault, in: configuration.runDirectory, memoryBytes: model.memoryBytes)
    for start in [10, 3_000, 1_500] { _ = try await machine.ask("sum \(start) 20") }
    await pager.finishRecording()
    await pager.finishRecording()
    try await eventually("the working set is there") {
      try FileStatus.of(generation.workingSetPath.string, followingLinks: false) != nil
    }
    // Afterwards nothing is recorded, and windows are large.
    #expect(try await machine.ask("sum 0 \(Self.pages)") == model.sum(0..<Self.pages))
    machine.kill()
    #expect(await pager.waitForExit() == PagerExit(failure: nil))

    let (second, secondPager, _) = try await laboratory.restore(generation)
    try await eventually("the working set is pushed") { try await secondPager.statistics().pagesPrefetched > 0 }
    #expect(try await second.ask("sum 3000 20") == model.sum(3_000..<3_020))
    let statistics = try await secondPager.statistics()
    // Recorded in windows of four; zeros are left out, and cost a fault.
    #expect(statistics.pagesPrefetched >= 54 && statistics.pagesPrefetched <= 84)
    #expect(try await second.ask("sum 0 \(Self.pages)") == model.sum(0..<Self.pages))
    second.kill()
    _ = await secondPager.waitForExit()
  }

  @Test("a damaged working set is as good as none")
  func damaged() async throws {
    let laboratory = try await Laboratory()
    let model = GuestModel.mixed(pages: Self.pages, seed: 2)
    let generation = try laboratory.generation(model)
    try Data(repeating: 1, count: 8_192).write(to: URL(filePath: generation.workingSetPath.string))
    let (machine, pager, _) = try await laboratory.restore(generation)
    #expect(try await machine.ask("sum 0 \(Self.pages)") == model.sum(0..<Self.pages))
    #expect(try await pager.statistics().pagesPrefetched == 0)
    machine.kill()
    #expect(await pager.waitForExit() == PagerExit(failure: nil))
  }

  @Test("what was pushed and then written is saved as written")
  func savedAfterPush() async throws {
    let laboratory = try await Laboratory()
    var model = GuestModel.mixed(pages: Self.pages, seed: 3)
    let generation = try laboratory.generation(model)
    let image = try MemoryImage.open(generation, in: laboratory.store)
    try WorkingSet.write(Array(0..<512), of: image, to: generation.workingSetPath)
    let (machine, pager, _) = try await laboratory.restore(generation)
    try await eventually("the working set is pushed") { try await pager.statistics().pagesPrefetched > 0 }
    _ = try await machine.ask("write 100 50 9")
    model.write(100..<150, seed: 9)
    let (saved, counts) = try await laboratory.save(machine, parent: generation)
    #expect(counts.storedPages == 50)
    try laboratory.expectContent(saved, model)
    machine.kill()
    _ = await pager.waitForExit()
  }
}
