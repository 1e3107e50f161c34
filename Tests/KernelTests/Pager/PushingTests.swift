import Concurrency
import Foundation
import Glibc
import LinuxSystem
import Model
import Snapshots
import SystemPackage
import Testing

@testable import Pager

/// Pushes a working set while the guest faults, writes and removes pages; the pager's loop runs in the test, one turn
/// at a time.
@Suite(.serialized) struct PushingTests {
  static let pages = 4_096

  /// A machine whose pager is this process.
  private struct Subject {
    let fixture: PagerFixture
    let generation: Generation
    let machine: TestMachine
    let server: PageServer
    let loop: PagerLoop
    let loader: WorkingSetLoader

    /// Runs turns of the loop until the machine has responded to `command`, and returns the response.
    func ask(_ command: String) async throws -> String {
      let response = Response()
      let machine = machine
      async let finished: Void = response.set(machine.ask(command))
      while response.text == nil {
        _ = try loop.turn()
        try await Task.sleep(for: .milliseconds(1))
      }
      try await finished
      return response.text ?? ""
    }

    /// Starts a command that the machine cannot complete without its pager.
    func begin(_ command: String) async throws -> Task<String, any Error> {
      let machine = machine
      let task = Task { try await machine.ask(command) }
      try await eventually("a message waits") {
        var polled = pollfd(fd: server.faults.rawValue, events: Int16(POLLIN), revents: 0)
        return poll(&polled, 1, 0) == 1
      }
      return task
    }

    func pushAll() throws {
      while try loop.turn() == .prefetched {}
    }
  }

  /// - Parameter set: pages of the working set recorded for the machine's generation.
  private func subject(_ model: GuestModel, set: Range<Int>) async throws -> Subject {
    let fixture = try await PagerFixture()
    let generation = try fixture.generation(model)
    let image = try MemoryImage.open(generation, in: fixture.store)
    try WorkingSet.write(Array(set), of: image, to: generation.workingSetPath)
    let directory = try fixture.runDirectory()
    let listener = try UnixSocket.listen(PagerConfiguration.socketName, in: directory, owner: 0)
    let machine = try TestMachine(.userfault, in: directory, memoryBytes: model.memoryBytes, shim: fixture.shim)
    let handshake = try MachineHandshake.accept(on: listener, owner: 0, memoryBytes: model.memoryBytes)
    try handshake.connection?.send([1])
    #expect(try await machine.line() == "ready")
    let server = PageServer(
      image: image, regions: handshake.regions, faults: handshake.faults,
      removed: try RemovedPages(in: directory, pageCount: image.pageCount), window: FaultWindow(),
      statistics: PagerStatistics())
    try server.takeOver()
    let file = try #require(try WorkingSetLoader.open(generation.workingSetPath))
    let loader = try WorkingSetLoader.start(file, for: image)
    let loop = PagerLoop(
      server: server, machine: handshake.machine, connection: handshake.connection,
      signals: try OwnedDescriptor.pipe().read,
      statistics: try StatisticsFile(in: directory), loader: loader)
    return Subject(
      fixture: fixture, generation: generation, machine: machine, server: server, loop: loop, loader: loader)
  }

  private func loaded(_ model: GuestModel, set: Range<Int>) async throws -> Subject {
    let subject = try await subject(model, set: set)
    try await eventually("the working set is read") { subject.loader.isOver }
    return subject
  }

  private func fullModel(seed: UInt64) -> GuestModel {
    var model = GuestModel(pages: Self.pages)
    model.write(0..<Self.pages, seed: seed)
    return model
  }

  @Test("a fault during the push waits for one piece at most")
  func askedMeanwhile() async throws {
    let model = fullModel(seed: 1)
    let subject = try await loaded(model, set: 0..<2_048)
    for page in [3_000, 1_990, 4_000] {
      #expect(try subject.loop.turn() == .prefetched)
      let pushed = subject.server.statistics.pagesPrefetched
      let command = try await subject.begin("sum \(page) 1")
      #expect(try subject.loop.turn() == .prefetched)
      #expect(try await command.value == model.sum(page..<(page + 1)))
      #expect(subject.server.statistics.pagesPrefetched == pushed + PagerLoop.pagesAtOnce)
    }
    #expect(subject.server.statistics.faults == 3)
    try subject.pushAll()
    #expect(subject.server.statistics.pagesPrefetched == 2_048 - FaultWindow.smallestPages)
    #expect(try await subject.ask("sum 0 2048") == model.sum(0..<2_048))
    #expect(subject.server.statistics.faults == 3)
    subject.machine.kill()
  }

  @Test(
    "pages that the guest removed before their turn are not pushed, whether the pager has read the message or not")
  func removedMeanwhile() async throws {
    var model = fullModel(seed: 2)
    let subject = try await loaded(model, set: 0..<1_024)
    #expect(try await subject.server.serveUntilFinished(subject.begin("remove 100 200")) == "ok")
    let command = try await subject.begin("remove 600 50")
    let image = subject.server.image
    for extent in image.extents(in: 590..<660) {
      guard case .stored(let stored) = extent.source else { continue }
      // The kernel reports a waiting message; the rest of the piece is left out.
      try subject.server.push(extent.pages, from: stored.bytes)
    }
    #expect(try await command.value == "ok")
    try subject.pushAll()
    model.zero(100..<300)
    model.zero(600..<650)
    #expect(subject.server.statistics.pagesPrefetched == 1_024 - 250)
    #expect(try await subject.ask("sum 0 \(Self.pages)") == model.sum(0..<Self.pages))
    let (saved, _) = try await subject.fixture.save(subject.machine, parent: subject.generation)
    try subject.fixture.expectContent(saved, model)
    subject.machine.kill()
  }

  @Test("pages that the guest wrote before their turn stay written")
  func writtenMeanwhile() async throws {
    var model = fullModel(seed: 3)
    let subject = try await subject(model, set: 0..<1_024)
    #expect(try await subject.ask("write 500 40 77") == "ok")
    try await eventually("the working set is read") { subject.loader.isOver }
    try subject.pushAll()
    model.write(500..<540, seed: 77)
    #expect(try await subject.ask("sum 0 \(Self.pages)") == model.sum(0..<Self.pages))
    let (saved, counts) = try await subject.fixture.save(subject.machine, parent: subject.generation)
    #expect(counts.storedPages == 40)
    try subject.fixture.expectContent(saved, model)
    subject.machine.kill()
  }

  @Test("threads that read and remove pages during the push see only old content or zeros")
  func churnedMeanwhile() async throws {
    let model = fullModel(seed: 4)
    let subject = try await loaded(model, set: 0..<Self.pages)
    #expect(try await subject.ask("race 0 1024 8") == model.sum(0..<1_024))
    #expect(try await subject.ask("churn 2000 64 200") == "ok")
    try subject.pushAll()
    #expect(try await subject.ask("sum 3000 1000") == model.sum(3_000..<4_000))
    subject.machine.kill()
  }
}

private final class Response: Sendable {
  private let value = Mutex<String?>(nil)

  var text: String? { value.withLock { $0 } }
  func set(_ text: String) { value.withLock { $0 = text } }
}

extension PageServer {
  /// Serves faults until the machine has responded.
  fileprivate func serveUntilFinished(_ command: Task<String, any Error>) async throws -> String {
    _ = try serveWaiting()
    return try await command.value
  }
}
