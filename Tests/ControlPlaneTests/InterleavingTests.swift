import Concurrency
import ControlPlane
import Foundation
import HostAPI
import Model
import NIOCore
import Persistence
import TestSupport
import Testing

/// All operations on one sandbox, concurrently, in orders that are determined by seeds.
@Suite(.serialized) struct InterleavingTests {
  private enum Deed: CaseIterable, Sendable {
    case pause, resume, expire, destroy, snapshot, fork, exec, tick, deleteSnapshot
  }

  private struct Outcome {
    var snapshots: [SafeName] = []
    var deleted: Set<SafeName> = []
    var copies: [SandboxID] = []
    var unexpected: [String] = []
  }

  private final class Ledger: Sendable {
    private let state = Mutex(Outcome())
    var outcome: Outcome { state.withLock { $0 } }
    func note(_ change: @Sendable (inout Outcome) -> Void) { state.withLock { change(&$0) } }
  }

  @Test(
    "of thousands of interleavings none loses a snapshot, releases twice, or leaves row and host apart",
    arguments: 0..<8,
    SQLDialect.allCases)
  func interleavings(block: Int, dialect: SQLDialect) async throws {
    try await withPlane(dialect) { plane async throws -> Void in
      for round in 0..<250 {
        try await interleave([plane], seed: UInt64(block * 250 + round))
      }
      #expect(await plane.host.slots.doubleReleases == 0)
    }
  }

  @Test("the same holds when two control planes on one PostgreSQL get the calls")
  func twoPlanes() async throws {
    try await withPlanes { leader, other async throws -> Void in
      for round in 0..<100 {
        try await interleave([leader, other], seed: UInt64(10_000 + round))
      }
      #expect(await leader.host.slots.doubleReleases == 0)
    }
  }

  /// - Parameter planes: control planes with the same database and host; each call uses one of them.
  private func interleave(_ planes: [Plane], seed: UInt64) async throws {
    let plane = planes[0]
    var random = SeededGenerator(seed: seed)
    let id = try await plane.create { $0.autoResumes = seed % 2 == 0 }.id
    let content = ByteBuffer(string: "seed \(seed)")
    await plane.host.put("/marker", content, in: id)
    await plane.host.shuffle(seed: seed)
    // In half of the rounds the sandbox is not destroyed.
    let deeds = (0..<6).map { _ in Deed.allCases.randomElement(using: &random) ?? .pause }
      .map { seed % 4 < 2 && $0 == .destroy ? .expire : $0 }
    let ledger = Ledger()
    await withDiscardingTaskGroup { group in
      for (index, deed) in deeds.enumerated() {
        let yields = Int(random.next() % 12)
        let plane = planes.randomElement(using: &random) ?? plane
        group.addTask {
          for _ in 0..<yields { await Task.yield() }
          await perform(deed, on: id, index, plane, ledger)
        }
      }
    }
    try await check(plane, id, content, destroyed: deeds.contains(.destroy), ledger.outcome, seed)
  }

  private func perform(_ deed: Deed, on id: SandboxID, _ index: Int, _ plane: Plane, _ ledger: Ledger) async {
    do {
      switch deed {
      case .pause: _ = try await plane.service.pause(id, for: plane.caller)
      case .resume: _ = try await plane.service.resume(id, for: plane.caller)
      case .expire: await plane.host.expire(id)
      case .destroy: try await plane.service.destroy(id, for: plane.caller)
      case .snapshot:
        let name = try SafeName("s\(index % 2)-\(id.uuidString.prefix(8))")
        _ = try await plane.snapshots.create(from: id, name: name, for: plane.caller)
        ledger.note { $0.snapshots.append(name) }
      case .deleteSnapshot:
        let name = try SafeName("s\(index % 2)-\(id.uuidString.prefix(8))")
        try await plane.snapshots.delete(name, for: plane.caller)
        ledger.note { _ = $0.deleted.insert(name) }
      case .fork:
        let copies = try await plane.service.fork(id, count: 1, for: plane.caller)
        ledger.note { $0.copies += copies.map(\.record.id) }
      case .exec: _ = try await plane.service.exec(ProcessRequest(command: "echo"), in: id, for: plane.caller)
      case .tick: await plane.control.monitor.tick()
      }
    } catch let error as MartletError where Self.isExpected(error.code) {
      // The call lost a race.
    } catch {
      ledger.note { $0.unexpected.append("\(deed): \(error)") }
    }
  }

  private static func isExpected(_ code: ErrorCode) -> Bool {
    switch code {
    case .invalidState, .notFound, .alreadyExists: true
    default: false
    }
  }

  private func check(
    _ plane: Plane, _ id: SandboxID, _ content: ByteBuffer, destroyed: Bool, _ ledger: Outcome, _ seed: UInt64
  ) async throws {
    #expect(ledger.unexpected.isEmpty, "seed \(seed)")
    await plane.control.monitor.tick()
    let status = try #require(try await plane.status(id))
    let word = await plane.host.sandboxes[id]?.status
    if destroyed {
      #expect(status == .stopped && word == nil, "seed \(seed): row \(status), host \(String(describing: word))")
      #expect(await plane.host.generations[id] == nil)
    } else {
      #expect(status == word, "seed \(seed): row \(status), host \(String(describing: word))")
      #expect(status == .running || status == .paused, "seed \(seed)")
      let kept =
        status == .running ? await plane.host.file("/marker", in: id) : await plane.host.savedFile("/marker", in: id)
      #expect(kept == content, "seed \(seed)")
    }
    // A snapshot that was created and not deleted exists, with the sandbox's content.
    for name in Set(ledger.snapshots).subtracting(ledger.deleted) {
      #expect(await plane.host.frozenFile("/marker", in: name, of: plane.caller.teamID) == content, "seed \(seed)")
      #expect(
        try await plane.snapshotRepository.snapshot(name, team: plane.caller.teamID)?.status == .ready, "seed \(seed)")
    }
    for copy in ledger.copies {
      #expect(await plane.host.file("/marker", in: copy) == content, "seed \(seed)")
    }
    for other in ledger.copies + [id] { try await plane.service.destroy(other, for: plane.caller) }
    #expect(await plane.host.slots.taken.isEmpty, "seed \(seed)")
    #expect(await plane.host.sandboxes.isEmpty, "seed \(seed)")
  }
}
