package import Foundation
import Model

/// The CPU, memory and disk usage of a sandbox at one moment, as reported by its guest.
package struct LoadSample: Sendable, Equatable {
  /// One sample per interval of this many seconds is retained longer than the others.
  package static let coarseInterval: TimeInterval = 900
  /// Guests are not trusted; larger values are clamped to this.
  private static let maximumPercent = 1e6

  package var takenAt: Date
  /// The sum over all CPUs, with a resolution of a thousandth.
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

  /// The mean of the samples, dated `time`.
  /// - Precondition: `samples` is not empty.
  package static func mean(of samples: [LoadSample], at time: Date) -> LoadSample {
    precondition(!samples.isEmpty, "the mean of no samples is undefined")
    // Adds fractions as Double: the sum of values that guests report may overflow an Int64.
    func mean(_ value: (LoadSample) -> Int64) -> Int64 {
      Int64(clamping: UInt64(samples.reduce(0.0) { $0 + Double(value($1)) / Double(samples.count) }.rounded()))
    }
    return LoadSample(
      takenAt: time, cpuPercent: samples.reduce(0) { $0 + $1.cpuPercent } / Double(samples.count),
      memoryBytes: mean(\.memoryBytes),
      memoryTotalBytes: mean(\.memoryTotalBytes), diskBytes: mean(\.diskBytes), diskTotalBytes: mean(\.diskTotalBytes))
  }

  var cpuMillipercent: Int { Int((cpuPercent * 1_000).rounded()) }

  /// Whether the sample was taken at the start of a `coarseInterval`.
  var isCoarse: Bool { UsageSample.start(of: takenAt, every: Self.coarseInterval) == takenAt }
}
