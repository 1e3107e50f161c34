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
  private enum Operation: CaseIterable, Sendable {
    case pause, resume, expire, destroy, snapshot, fork, exec, tick, deleteSnapshot
  }

  private struct Outcome {
    var snapshots: [SafeName] = []
    var deleted: Set<SafeName> = []
    var copies: [SandboxID] = []
    var unexpected: [String] = []
  }

  private final class ResultLog: Sendable {
    private let state = Mutex(Outcome())
    var outcome: Outcome { state.withLock { $0 } }
    func note(_ change: @Sendable (inout Outcome) -> Void) { state.withLock { change(&$0) } }
  }

  @Test(
    "none of thousands of interleavings loses a snapshot, releases twice, or leaves row and host in different states",
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

  @Test("the same holds for calls to two control planes on one PostgreSQL")
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
    let operations = (0..<6).map { _ in Operation.allCases.randomElement(using: &random) ?? .pause }
      .map { seed % 4 < 2 && $0 == .destroy ? .expire : $0 }
    let log = ResultLog()
    await withDiscardingTaskGroup { group in
      for (index, operation) in operations.enumerated() {
        let yields = Int(random.next() % 12)
        let plane = planes.randomElement(using: &random) ?? plane
        group.addTask {
          for _ in 0..<yields { await Task.yield() }
          await perform(operation, on: id, index, plane, log)
        }
      }
    }
    try await check(plane, id, content, destroyed: operations.contains(.destroy), log.outcome, seed)
  }

  private func perform(_ operation: Operation, on id: SandboxID, _ index: Int, _ plane: Plane, _ log: ResultLog) async {
    do {
      switch operation {
      case .pause: _ = try await plane.service.pause(id, for: plane.caller)
      case .resume: _ = try await plane.service.resume(id, for: plane.caller)
      case .expire: await plane.host.expire(id)
      case .destroy: try await plane.service.destroy(id, for: plane.caller)
      case .snapshot:
        let name = try SafeName("s\(index % 2)-\(id.uuidString.prefix(8))")
        _ = try await plane.snapshots.create(from: id, name: name, for: plane.caller)
        log.note { $0.snapshots.append(name) }
      case .deleteSnapshot:
        let name = try SafeName("s\(index % 2)-\(id.uuidString.prefix(8))")
        try await plane.snapshots.delete(name, for: plane.caller)
        log.note { _ = $0.deleted.insert(name) }
      case .fork:
        let copies = try await plane.service.fork(id, count: 1, for: plane.caller)
        log.note { $0.copies += copies.map(\.record.id) }
      case .exec: _ = try await plane.service.exec(ProcessRequest(command: "echo"), in: id, for: plane.caller)
      case .tick: await plane.control.monitor.tick()
      }
    } catch let error as MartletError where Self.isExpected(error.code) {
      // The call lost a race.
    } catch {
      log.note { $0.unexpected.append("\(operation): \(error)") }
    }
  }

  private static func isExpected(_ code: ErrorCode) -> Bool {
    switch code {
    case .invalidState, .notFound, .alreadyExists: true
    default: false
    }
  }

  private func check(
    _ plane: Plane, _ id: SandboxID, _ content: ByteBuffer, destroyed: Bool, _ log: Outcome, _ seed: UInt64
  ) async throws {
    #expect(log.unexpected.isEmpty, "seed \(seed)")
    await plane.control.monitor.tick()
    let status = try #require(try await plane.status(id))
    let onHost = await plane.host.sandboxes[id]?.status
    if destroyed {
      #expect(status == .stopped && onHost == nil, "seed \(seed): row \(status), host \(String(describing: onHost))")
      #expect(await plane.host.generations[id] == nil)
    } else {
      #expect(status == onHost, "seed \(seed): row \(status), host \(String(describing: onHost))")
      #expect(status == .running || status == .paused, "seed \(seed)")
      let kept =
        status == .running ? await plane.host.file("/marker", in: id) : await plane.host.savedFile("/marker", in: id)
      #expect(kept == content, "seed \(seed)")
    }
    // A snapshot that was created and not deleted exists, with the sandbox's content.
    for name in Set(log.snapshots).subtracting(log.deleted) {
      #expect(await plane.host.snapshotFile("/marker", in: name, of: plane.caller.teamID) == content, "seed \(seed)")
      #expect(
        try await plane.snapshotRepository.snapshot(name, team: plane.caller.teamID)?.status == .ready, "seed \(seed)")
    }
    for copy in log.copies {
      #expect(await plane.host.file("/marker", in: copy) == content, "seed \(seed)")
    }
    for other in log.copies + [id] { try await plane.service.destroy(other, for: plane.caller) }
    #expect(await plane.host.slots.taken.isEmpty, "seed \(seed)")
    #expect(await plane.host.sandboxes.isEmpty, "seed \(seed)")
  }
}
