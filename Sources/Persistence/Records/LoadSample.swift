package import Foundation
import Model

/// How busy a sandbox was at one moment, as its guest said.
package struct LoadSample: Sendable, Equatable {
  /// Of these one is kept longer than the others.
  package static let coarseInterval: TimeInterval = 900
  /// Guests say what they like; more than this is not believed.
  private static let maximumPercent = 1e6

  package var takenAt: Date
  /// Of all CPUs together; in thousandths.
  package var cpuPercent: Double
  package var memoryBytes: Int64
  package var memoryTotalBytes: Int64
  package var diskBytes: Int64
  package var diskTotalBytes: Int64

  package init(
    takenAt: Date, cpuPercent: Double, memoryBytes: Int64, memoryTotalBytes: Int64, diskBytes: Int64,
    diskTotalBytes: Int64
  ) {
    self.takenAt = StoredTime.rounded(takenAt)
    let percent = cpuPercent.isFinite ? min(max(cpuPercent, 0), Self.maximumPercent) : 0
    self.cpuPercent = (percent * 1_000).rounded() / 1_000
    self.memoryBytes = max(0, memoryBytes)
    self.memoryTotalBytes = max(0, memoryTotalBytes)
    self.diskBytes = max(0, diskBytes)
    self.diskTotalBytes = max(0, diskTotalBytes)
  }

  /// The mean of samples, at `time`.
  /// - Precondition: there is one at least.
  package static func mean(of samples: [LoadSample], at time: Date) -> LoadSample {
    precondition(!samples.isEmpty, "nothing has no mean")
    // As fractions: sums of what guests say may be more than a number holds.
    func mean(_ value: (LoadSample) -> Int64) -> Int64 {
      Int64(clamping: UInt64(samples.reduce(0.0) { $0 + Double(value($1)) / Double(samples.count) }.rounded()))
    }
    return LoadSample(
      takenAt: time, cpuPercent: samples.reduce(0) { $0 + $1.cpuPercent } / Double(samples.count),
      memoryBytes: mean(\.memoryBytes),
      memoryTotalBytes: mean(\.memoryTotalBytes), diskBytes: mean(\.diskBytes), diskTotalBytes: mean(\.diskTotalBytes))
  }

  var cpuMillipercent: Int { Int((cpuPercent * 1_000).rounded()) }

  /// Whether it was taken at the start of a `coarseInterval`.
  var isCoarse: Bool { UsageSample.start(of: takenAt, every: Self.coarseInterval) == takenAt }
}
