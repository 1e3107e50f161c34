package import Foundation
import Model
package import Persistence

/// The time range of statistics; longer ranges have wider points.
package enum StatisticsRange: String, Sendable, CaseIterable {
  case hour = "1h"
  case sixHours = "6h"
  case day = "24h"
  case week = "7d"

  package var duration: TimeInterval {
    switch self {
    case .hour: 3_600
    case .sixHours: 21_600
    case .day: 86_400
    case .week: 604_800
    }
  }

  /// The width of a point, in seconds.
  package var step: TimeInterval {
    switch self {
    case .hour: 60
    case .sixHours: 300
    case .day: 900
    case .week: 7_200
    }
  }
}

/// A team's present and past usage.
package struct UsageStatistics: Sendable, Equatable {
  package var now: UsageSample
  /// The maximum of each value, possibly at different times.
  package var peak: UsageSample
  /// Oldest first. Each point has the maximum values of its interval; intervals in which nothing ran are omitted.
  package var series: [UsageSample]
}

extension SandboxService {
  /// A team's usage statistics. Samples are taken once a minute, so shorter peaks may be missing.
  package func statistics(_ range: StatisticsRange, for caller: Caller) async throws -> UsageStatistics {
    let usage = try await repository.usage(of: caller.teamID)
    let current = UsageSample(takenAt: now, running: usage.sandboxes, vcpus: usage.vcpus, memoryMiB: usage.memoryMiB)
    let samples = try await repository.usageSamples(of: caller.teamID, since: now.addingTimeInterval(-range.duration))
    return UsageStatistics(
      now: current, peak: samples.reduce(current) { $0.maximum($1) }, series: Self.series(samples, step: range.step))
  }

  private static func series(_ samples: [UsageSample], step: TimeInterval) -> [UsageSample] {
    samples.reduce(into: []) { series, sample in
      var point = sample
      point.takenAt = UsageSample.start(of: sample.takenAt, every: step)
      if let last = series.last, last.takenAt == point.takenAt {
        series[series.count - 1] = last.maximum(point)
      } else {
        series.append(point)
      }
    }
  }
}

extension UsageSample {
  fileprivate func maximum(_ other: UsageSample) -> UsageSample {
    UsageSample(
      takenAt: takenAt, running: max(running, other.running), vcpus: max(vcpus, other.vcpus),
      memoryMiB: max(memoryMiB, other.memoryMiB))
  }
}
