import Foundation
import Model
import Persistence
import TestSupport
import Testing

@testable import ControlPlane

@Suite struct StatisticsTests {
  @Test(
    "the monitor samples once a minute, and statistics contain the present, peak and past usage",
    arguments: SQLDialect.allCases)
  func series(dialect: SQLDialect) async throws {
    try await withPlane(dialect) { plane async throws -> Void in
      let first = try await plane.create { $0.vcpus = 2 }
      _ = try await plane.create { $0.vcpus = 3 }
      plane.clock.advance(by: 60)
      await plane.control.monitor.tick()
      await plane.control.monitor.tick()
      try await plane.control.sandboxes.destroy(first.id, for: plane.caller)
      let statistics = try await plane.control.sandboxes.statistics(.hour, for: plane.caller)
      #expect(statistics.now.running == 1 && statistics.now.vcpus == 3)
      #expect(statistics.peak.running == 2 && statistics.peak.vcpus == 5)
      #expect(statistics.series.map(\.vcpus) == [5])
      plane.clock.advance(by: 7_200)
      #expect(try await plane.control.sandboxes.statistics(.hour, for: plane.caller).series.isEmpty)
      #expect(try await plane.control.sandboxes.statistics(.day, for: plane.caller).peak.running == 2)
    }
  }

  @Test(
    "the load of every running sandbox is sampled once a minute, and unresponsive ones are omitted",
    arguments: SQLDialect.allCases)
  func load(dialect: SQLDialect) async throws {
    try await withPlane(dialect) { plane async throws -> Void in
      var ids: [SandboxID] = []
      for _ in 0..<12 { ids.append(try await plane.create().id) }
      // Its row says running, but its host does not know it.
      let lost = try await plane.leaveRow(.running)
      for _ in 0..<3 {
        await plane.control.monitor.sampleLoad()
        await plane.control.monitor.sampleLoad()
        plane.clock.advance(by: 60)
      }
      for id in ids {
        let points = try await plane.service.metrics(of: id, .hour, for: plane.caller)
        #expect(points.count == 4)
        #expect(points.allSatisfy { $0.cpuPercent == 12.5 })
        #expect(points.map(\.takenAt) == points.map(\.takenAt).sorted())
      }
      #expect(try await plane.service.metrics(of: lost.id, .hour, for: plane.caller).isEmpty)
      plane.clock.advance(by: 7_200)
      #expect(try await plane.service.metrics(of: ids[0], .hour, for: plane.caller).count == 1)
      #expect(try await plane.service.metrics(of: ids[0], .sixHours, for: plane.caller).count <= 3)
    }
  }
}
