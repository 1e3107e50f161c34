import Foundation
import Glibc
import LinuxSystem
import Model
import Snapshots
import SystemPackage
import Testing

@testable import Pager

@Suite(.serialized) struct ReplacementTests {
  static let pages = 4_096

  @Test("a pager killed under a running VM is replaced, and no page is wrong")
  func replaced() async throws {
    let fixture = try await PagerFixture()
    var model = GuestModel.mixed(pages: Self.pages, seed: 1)
    let (machine, first, configuration) = try await fixture.restore(try fixture.generation(model))
    #expect(try await machine.ask("sum 0 1024") == model.sum(0..<1_024))
    #expect(try await machine.ask("write 10 20 5") == "ok")
    #expect(try await machine.ask("remove 100 100") == "ok")
    model.write(10..<30, seed: 5)
    model.zero(100..<200)
    try await first.kill()
    #expect(try await first.waitForExit() == PagerExit(failure: nil))
    // This one waits until a pager serves again.
    let expected = model.sum(0..<Self.pages)
    async let sum = machine.ask("sum 0 \(Self.pages)")
    try await eventually("the machine waits for a page") {
      try SmallFile.readText("/proc/\(machine.pid)/wchan").contains("userfault")
    }
    let second = try await fixture.backend.replace(configuration, vmm: machine.pid)
    #expect(try await sum == expected)
    #expect(try fixture.backend.findOrphans(of: configuration.id) == [second.identity])
    machine.kill()
    #expect(try await second.waitForExit() == PagerExit(failure: nil))
  }

  @Test(
    "removed pages are zero, also when the pager was killed between reading and recording the message"
  )
  func removalTakenAndNotNoted() async throws {
    let fixture = try await PagerFixture()
    var model = GuestModel.mixed(pages: Self.pages, seed: 6)
    let origin = try fixture.generation(model)
    let (machine, first, configuration) = try await fixture.restore(origin)
    #expect(try await machine.ask("sum 0 1024") == model.sum(0..<1_024))
    try await first.kill()
    _ = try await first.waitForExit()
    // The work of a pager up to the moment of its death, on pages that were read and on pages that never were.
    async let response = machine.ask("remove 900 600")
    try await eventually("the message is taken") { try Self.takeWithoutNoting(from: machine.pid, configuration) }
    #expect(try await response == "ok")
    model.zero(900..<1_500)
    let (generation, _) = try await fixture.save(machine, parent: origin)
    try fixture.expectContent(generation, model)
    let second = try await fixture.backend.replace(configuration, vmm: machine.pid)
    #expect(try await machine.ask("sum 0 \(Self.pages)") == model.sum(0..<Self.pages))
    machine.kill()
    #expect(try await second.waitForExit() == PagerExit(failure: nil))
  }

  private static func takeWithoutNoting(from vmm: Int32, _ configuration: PagerConfiguration) throws -> Bool {
    let removed = try RemovedPages(in: configuration.runDirectory, pageCount: pages)
    _ = try removed.inbox.takeOver()
    removed.inbox.settle()
    var events: [UserFaultEvent] = []
    try removed.inbox.take(from: #require(try UserFaultDescriptor.taken(from: vmm)), into: &events)
    return !events.isEmpty
  }

  @Test("repeated replacement of pagers while threads fault everywhere keeps the content right")
  func storm() async throws {
    let fixture = try await PagerFixture()
    let model = GuestModel.mixed(pages: Self.pages, seed: 2)
    let (machine, first, configuration) = try await fixture.restore(try fixture.generation(model))
    async let sum = machine.ask("race 0 \(Self.pages) 8")
    var pager = first
    for _ in 0..<5 {
      try await pager.kill()
      pager = try await fixture.backend.replace(configuration, vmm: machine.pid)
    }
    #expect(try await sum == model.sum(0..<Self.pages))
    machine.kill()
    #expect(try await pager.waitForExit() == PagerExit(failure: nil))
  }

  @Test("a successor detects a damaged page")
  func damageAfterReplacement() async throws {
    let fixture = try await PagerFixture()
    var model = GuestModel(pages: Self.pages)
    model.write(0..<Self.pages, seed: 3)
    let generation = try fixture.generation(model)
    let (machine, first, configuration) = try await fixture.restore(generation)
    #expect(try await machine.ask("sum 0 32") == model.sum(0..<32))
    try await first.kill()
    let file = try OwnedDescriptor.open(generation.memoryPath.string, O_RDWR)
    _ = pwrite(file.rawValue, "x", 1, off_t(4_096 * 2_000))
    let second = try await fixture.backend.replace(configuration, vmm: machine.pid)
    #expect(try await machine.ask("sum 0 \(Self.pages)") == "")
    #expect(await machine.waitForExit() == .signaled(SIGKILL))
    #expect(try await second.waitForExit().failure != nil)
  }

  @Test("a VMM that has ended, or has no userfaultfd, cannot get a replacement")
  func impossible() async throws {
    let fixture = try await PagerFixture()
    let generation = try fixture.generation(GuestModel.mixed(pages: 256, seed: 4))
    let configuration = try fixture.configuration(generation)
    let machine = try await fixture.start(.anonymous, in: configuration.runDirectory, memoryBytes: 256 * 4_096)
    await #expect(throws: MartletError.self) { try await fixture.backend.replace(configuration, vmm: machine.pid) }
    machine.kill()
    _ = await machine.waitForExit()
    await #expect(throws: MartletError.self) { try await fixture.backend.replace(configuration, vmm: machine.pid) }
  }

  @Test("a pager outlives the process that started it, and is adopted by pid and start time")
  func adopted() async throws {
    let fixture = try await PagerFixture()
    let model = GuestModel.mixed(pages: 256, seed: 5)
    let (machine, first, configuration) = try await fixture.restore(try fixture.generation(model))
    let identity = first.identity
    let adopted = try #require(try await fixture.backend.adopt(identity, runDirectory: configuration.runDirectory))
    #expect(adopted.identity == identity)
    let other = PagerIdentity(pid: identity.pid, startTimeTicks: identity.startTimeTicks + 1)
    #expect(try await fixture.backend.adopt(other, runDirectory: configuration.runDirectory) == nil)
    // In a session of its own, so that no signal for the host agent's terminal or service reaches it.
    #expect(getsid(identity.pid) == identity.pid)
    machine.kill()
    #expect(try await adopted.waitForExit() == PagerExit(failure: nil))
    #expect(try await fixture.backend.adopt(identity, runDirectory: configuration.runDirectory) == nil)
  }
}
