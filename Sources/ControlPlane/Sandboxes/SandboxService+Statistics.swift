package import Foundation
import Model
package import Persistence

/// How far back statistics look; the longer, the wider each point.
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

  /// Width of one point.
  package var step: TimeInterval {
    switch self {
    case .hour: 60
    case .sixHours: 300
    case .day: 900
    case .week: 7_200
    }
  }
}

/// What a team has running, and had.
package struct UsageStatistics: Sendable, Equatable {
  package var now: UsageSample
  /// The most of each, not of one moment.
  package var peak: UsageSample
  /// Oldest first, each with the most of its span; spans in which nothing ran are left out.
  package var series: [UsageSample]
}

extension SandboxService {
  /// Samples are taken once a minute: what came and went in between is not in them.
  package func statistics(_ range: StatisticsRange, for caller: Caller) async throws -> UsageStatistics {
    let usage = try await repository.usage(of: caller.teamID)
    let current = UsageSample(takenAt: now, running: usage.sandboxes, vcpus: usage.vcpus, memoryMiB: usage.memoryMiB)
    let samples = try await repository.usageSamples(of: caller.teamID, since: now.addingTimeInterval(-range.duration))
    return UsageStatistics(
      now: current, peak: samples.reduce(current) { $0.most($1) }, series: Self.series(samples, step: range.step))
  }

  private static func series(_ samples: [UsageSample], step: TimeInterval) -> [UsageSample] {
    samples.reduce(into: []) { series, sample in
      var point = sample
      point.takenAt = UsageSample.start(of: sample.takenAt, every: step)
      if let last = series.last, last.takenAt == point.takenAt {
        series[series.count - 1] = last.most(point)
      } else {
        series.append(point)
      }
    }
  }
}

extension UsageSample {
  fileprivate func most(_ other: UsageSample) -> UsageSample {
    UsageSample(
      takenAt: takenAt, running: max(running, other.running), vcpus: max(vcpus, other.vcpus),
      memoryMiB: max(memoryMiB, other.memoryMiB))
  }
}
