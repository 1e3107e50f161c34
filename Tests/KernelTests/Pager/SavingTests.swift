import Foundation
import Glibc
import LinuxSystem
import Model
import Snapshots
import SystemPackage
import Testing

@testable import Pager

@Suite(.serialized) struct SavingTests {
  static let pages = 4_096

  @Test("a booted machine's memory is saved completely")
  func booted() async throws {
    let fixture = try await PagerFixture()
    var model = GuestModel(pages: Self.pages)
    let machine = try await fixture.start(
      .anonymous, in: try fixture.runDirectory(), memoryBytes: model.memoryBytes)
    _ = try await machine.ask("write 5 300 1")
    _ = try await machine.ask("write 2000 1 2")
    _ = try await machine.ask("zero 100 50")
    _ = try await machine.ask("sum 3000 100")
    model.write(5..<305, seed: 1)
    model.write(2_000..<2_001, seed: 2)
    model.zero(100..<150)
    let (generation, saved) = try await fixture.save(machine, parent: nil)
    #expect(saved.storedPages == 251)
    #expect(saved.zeroedPages == 0)
    try fixture.expectContent(generation, model)
    // The machine continues and is saved again over the first save.
    _ = try await machine.ask("remove 2000 1")
    _ = try await machine.ask("write 6 1 7")
    model.zero(2_000..<2_001)
    model.write(6..<7, seed: 7)
    let (second, difference) = try await fixture.save(machine, parent: generation)
    #expect(difference.storedPages == 1)
    #expect(difference.zeroedPages == 1)
    try fixture.expectContent(second, model)
    machine.kill()
  }

  @Test("over many generations with real pagers, memory is exactly what was written")
  func generations() async throws {
    let fixture = try await PagerFixture()
    var model = GuestModel.mixed(pages: Self.pages, seed: 3)
    var generation = try fixture.generation(model)
    for round in 0..<5 {
      let (machine, pager, _) = try await fixture.restore(generation)
      let start = round * 700
      // Written, zeroed, removed, removed and written again, only read.
      for command in [
        "write \(start) 100 \(50 + round)", "zero \(start + 50) 100", "remove \(start + 200) 100",
        "write \(start + 220) 10 \(90 + round)",
        "sum \(start + 300) 400",
      ] {
        _ = try await machine.ask(command)
      }
      model.write(start..<(start + 100), seed: UInt64(50 + round))
      model.zero((start + 50)..<(start + 150))
      model.zero((start + 200)..<(start + 300))
      model.write((start + 220)..<(start + 230), seed: UInt64(90 + round))
      let (next, saved) = try await fixture.save(machine, parent: generation)
      #expect(saved.storedPages == 60)
      #expect(saved.equalPages < 400, "pages that were only read are not looked at")
      try fixture.expectContent(next, model)
      // The machine was not changed.
      #expect(try await machine.ask("sum \(start) 320") == model.sum(start..<(start + 320)))
      machine.kill()
      _ = try await pager.waitForExit()
      generation = next
    }
  }

  @Test("a machine that continues after a snapshot is saved again over that snapshot")
  func runsOn() async throws {
    let fixture = try await PagerFixture()
    var model = GuestModel.mixed(pages: Self.pages, seed: 4)
    let origin = try fixture.generation(model)
    let (machine, pager, _) = try await fixture.restore(origin)
    _ = try await machine.ask("write 0 100 5")
    model.write(0..<100, seed: 5)
    let (first, _) = try await fixture.save(machine, parent: origin)
    try fixture.expectContent(first, model)
    _ = try await machine.ask("write 50 10 6")
    _ = try await machine.ask("remove 0 20")
    model.write(50..<60, seed: 6)
    model.zero(0..<20)
    let (second, saved) = try await fixture.save(machine, parent: first)
    #expect(saved == SavedMemory(storedPages: 10, zeroedPages: 20, equalPages: 70))
    try fixture.expectContent(second, model)
    machine.kill()
    _ = try await pager.waitForExit()
  }

  @Test(
    "kernels with and without PAGEMAP_SCAN give the same memory", arguments: PageScan.Method.allCases, [true, false])
  func methods(_ method: PageScan.Method, _ isRestored: Bool) async throws {
    let fixture = try await PagerFixture()
    var model = isRestored ? GuestModel.mixed(pages: Self.pages, seed: 5) : GuestModel(pages: Self.pages)
    let parent = isRestored ? try fixture.generation(model) : nil
    let machine: TestMachine
    if let parent {
      machine = try await fixture.restore(parent).0
    } else {
      machine = try await fixture.start(
        .anonymous, in: try fixture.runDirectory(), memoryBytes: model.memoryBytes)
    }
    for command in [
      "write 100 700 5", "zero 300 100", "remove 1000 200", "write 1100 1 6", "sum 1000 300", "remove 4000 96",
    ] {
      _ = try await machine.ask(command)
    }
    model.write(100..<800, seed: 5)
    model.zero(300..<400)
    model.zero(1_000..<1_200)
    model.write(1_100..<1_101, seed: 6)
    model.zero(4_000..<4_096)
    let draft = try fixture.store.begin(GenerationID())
    let image = try parent.map { try MemoryImage.open($0, in: fixture.store) }
    let writer = try MemoryLayerWriter(draft, memoryBytes: model.memoryBytes, parent: image)
    try MemoryDump(vmm: machine.pid, runDirectory: machine.runDirectory, memoryBytes: model.memoryBytes, method: method)
      .write(to: writer)
    let counts = try writer.finish()
    #expect(counts.stored == 601)
    try fixture.expectContent(try fixture.publish(draft, memoryBytes: model.memoryBytes, parent: parent), model)
    machine.kill()
  }

  @Test("a prepared save that does not run leaves no process")
  func abandoned() async throws {
    let fixture = try await PagerFixture()
    let machine = try await fixture.start(.anonymous, in: try fixture.runDirectory(), memoryBytes: 4_096 * 64)
    func prepared() async throws -> any MemorySaving {
      try await fixture.backend.prepareSaving(
        vmm: machine.pid, runDirectory: machine.runDirectory, memoryBytes: machine.memoryBytes, parent: nil,
        into: try fixture.store.begin(GenerationID()))
    }
    let abandoned = try await prepared()
    #expect(try fixture.savers(of: machine) == 1)
    await abandoned.abandon()
    await abandoned.abandon()
    #expect(try fixture.savers(of: machine) == 0)
    await #expect(throws: MartletError.self) { try await abandoned.run() }
    _ = try await prepared()
    #expect(try fixture.savers(of: machine) == 0)
    machine.kill()
  }

  @Test("saving a VMM that has ended fails with a reason")
  func gone() async throws {
    let fixture = try await PagerFixture()
    let machine = try await fixture.start(.anonymous, in: try fixture.runDirectory(), memoryBytes: 4_096 * 64)
    machine.kill()
    _ = await machine.waitForExit()
    await #expect(throws: MartletError.self) { try await fixture.save(machine, parent: nil) }
  }

  @Test("an unreadable parent layer fails only the save, with a reason")
  func unreadableParent() async throws {
    let fixture = try await PagerFixture()
    var model = GuestModel(pages: Self.pages)
    model.write(0..<Self.pages, seed: 6)
    let parent = try fixture.generation(model)
    let (machine, pager, _) = try await fixture.restore(parent)
    _ = try await machine.ask("sum 0 \(Self.pages)")
    _ = try await machine.ask("write 3000 10 1")
    #expect(truncate(parent.memoryPath.string, 4_096 * 1_000) == 0)
    let error = await #expect(throws: MartletError.self) { try await fixture.save(machine, parent: parent) }
    #expect(error?.code == .snapshotDamaged)
    // The machine has all its pages and is not affected.
    model.write(3_000..<3_010, seed: 1)
    #expect(try await machine.ask("sum 0 \(Self.pages)") == model.sum(0..<Self.pages))
    machine.kill()
    _ = try await pager.waitForExit()
  }
}
