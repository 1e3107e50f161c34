import Foundation
import Glibc
import LinuxSystem
import Model
import Pager
import Snapshots
import SystemPackage
import Testing

@Suite(.serialized) struct ServingTests {
  static let pages = 4_096

  @Test("a restored machine reads what was saved, and its pager ends with it")
  func restores() async throws {
    let fixture = try await PagerFixture()
    let model = GuestModel.mixed(pages: Self.pages, seed: 1)
    let (machine, pager, configuration) = try await fixture.restore(try fixture.generation(model))
    #expect(try await machine.ask("sum 0 \(Self.pages)") == model.sum(0..<Self.pages))
    // Counted shortly after the guest continues.
    try await eventually("all pages are counted") {
      let counted = try await pager.statistics()
      return counted.pagesCopied + counted.pagesZeroed == Self.pages
    }
    let statistics = try await pager.statistics()
    #expect(statistics.pagesZeroed == model.seeds.filter { $0 == nil }.count)
    #expect(statistics.faults > 0 && statistics.faults <= Self.pages / FaultWindow.smallestPages)
    #expect(try fixture.backend.findOrphans(of: configuration.id) == [pager.identity])
    machine.kill()
    #expect(try await pager.waitForExit() == PagerExit(failure: nil))
    #expect(try fixture.backend.findOrphans(of: configuration.id).isEmpty)
  }

  @Test("a restore places only pages that are read")
  func lazy() async throws {
    let fixture = try await PagerFixture()
    let model = GuestModel.mixed(pages: Self.pages, seed: 2)
    let (machine, pager, _) = try await fixture.restore(try fixture.generation(model))
    #expect(try await machine.ask("sum 100 1") == model.sum(100..<101))
    try await eventually("the fault is counted") { try await pager.statistics().faults > 0 }
    let statistics = try await pager.statistics()
    #expect(statistics.faults == 1)
    #expect(statistics.pagesCopied + statistics.pagesZeroed == FaultWindow.smallestPages)
    machine.kill()
    _ = try await pager.waitForExit()
  }

  @Test("threads that fault everywhere at the same time agree on the content")
  func concurrent() async throws {
    let fixture = try await PagerFixture()
    let model = GuestModel.mixed(pages: Self.pages, seed: 3)
    let (machine, pager, _) = try await fixture.restore(try fixture.generation(model))
    #expect(try await machine.ask("race 0 \(Self.pages) 8") == model.sum(0..<Self.pages))
    machine.kill()
    #expect(try await pager.waitForExit().failure == nil)
  }

  @Test("pages that the guest removes are zero from then on, and can be written again")
  func removed() async throws {
    let fixture = try await PagerFixture()
    var model = GuestModel.mixed(pages: Self.pages, seed: 4)
    let (machine, pager, configuration) = try await fixture.restore(try fixture.generation(model))
    _ = try await machine.ask("sum 0 1000")
    // On pages that were read, and on pages that never were.
    #expect(try await machine.ask("remove 500 1000") == "ok")
    model.zero(500..<1_500)
    #expect(try await machine.ask("write 700 10 9") == "ok")
    model.write(700..<710, seed: 9)
    #expect(try await machine.ask("sum 0 \(Self.pages)") == model.sum(0..<Self.pages))
    try await eventually("removals are counted") { try await pager.statistics().removedPages == 1_000 }
    #expect(try RemovedPages(in: configuration.runDirectory, pageCount: Self.pages).bitmap.count == 1_000)
    machine.kill()
    #expect(try await pager.waitForExit().failure == nil)
  }

  @Test("a guest that removes pages while it reads them sees old content or zeros, and zeros in the end")
  func churn() async throws {
    let fixture = try await PagerFixture()
    let model = GuestModel.mixed(pages: Self.pages, seed: 5)
    let (machine, pager, _) = try await fixture.restore(try fixture.generation(model))
    #expect(try await machine.ask("churn 2048 64 300") == "ok")
    #expect(try await machine.ask("sum 0 2048") == model.sum(0..<2_048))
    machine.kill()
    #expect(try await pager.waitForExit().failure == nil)
  }

  @Test("an idle pager sleeps")
  func idle() async throws {
    let fixture = try await PagerFixture()
    let model = GuestModel.mixed(pages: Self.pages, seed: 6)
    let (machine, pager, _) = try await fixture.restore(try fixture.generation(model))
    _ = try await machine.ask("sum 0 64")
    // In poll(2) after the last spin: voluntary context switches no longer increase.
    try await eventually("the pager sleeps") {
      try SmallFile.readText("/proc/\(pager.identity.pid)/wchan").contains("poll")
    }
    let before = try processorTicks(pager.identity.pid)
    try await Task.sleep(for: .milliseconds(300))
    #expect(try processorTicks(pager.identity.pid) - before <= 1)
    machine.kill()
    _ = try await pager.waitForExit()
  }

  /// Fields 14 and 15 of /proc/PID/stat.
  private func processorTicks(_ pid: Int32) throws -> Int {
    let text = try SmallFile.readText("/proc/\(pid)/stat")
    let fields = text[text.index(after: text.lastIndex(of: ")") ?? text.startIndex)...].split(separator: " ")
    return (Int(fields[11]) ?? 0) + (Int(fields[12]) ?? 0)
  }

  @Test("no descriptor and no process is left after many restores")
  func leaks() async throws {
    let fixture = try await PagerFixture()
    let model = GuestModel.mixed(pages: 256, seed: 7)
    let generation = try fixture.generation(model)
    func restoreOnce() async throws {
      let (machine, pager, configuration) = try await fixture.restore(generation)
      #expect(try await machine.ask("sum 0 256") == model.sum(0..<256))
      machine.kill()
      _ = await machine.waitForExit()
      _ = try await pager.waitForExit()
      #expect(try ProcessTable.startTimeTicks(of: pager.identity.pid) != pager.identity.startTimeTicks)
      #expect(try fixture.backend.findOrphans(of: configuration.id).isEmpty)
    }
    try await restoreOnce()
    let before = try openDescriptors().count
    for _ in 0..<8 { try await restoreOnce() }
    try await eventually("descriptors are as before") { try openDescriptors().count <= before }
  }
}
