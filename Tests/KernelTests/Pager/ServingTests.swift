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
    let laboratory = try await Laboratory()
    let model = GuestModel.mixed(pages: Self.pages, seed: 1)
    let (machine, pager, configuration) = try await laboratory.restore(try laboratory.generation(model))
    #expect(try await machine.ask("sum 0 \(Self.pages)") == model.sum(0..<Self.pages))
    let statistics = try await pager.statistics()
    #expect(statistics.pagesCopied + statistics.pagesZeroed == Self.pages)
    #expect(statistics.pagesZeroed == model.seeds.filter { $0 == nil }.count)
    #expect(statistics.faults > 0 && statistics.faults <= Self.pages / 32)
    machine.kill()
    #expect(await pager.waitForExit() == PagerExit(failure: nil))
    #expect(try laboratory.backend.findOrphans(of: configuration.id).isEmpty)
  }
}
