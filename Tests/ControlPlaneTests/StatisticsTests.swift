import ControlPlane
import Foundation
import Model
import Persistence
import TestSupport
import Testing

@Suite struct StatisticsTests {
  @Test("the monitor samples once a minute, and statistics tell what runs, the most that did, and when", arguments: SQLDialect.allCases)
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
}
