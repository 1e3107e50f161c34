package import Foundation
import Model

/// A team's running sandboxes and their resources at one moment.
package struct UsageSample: Sendable, Equatable {
  /// At most one sample is taken per interval of this many seconds, dated at its start.
  package static let interval: TimeInterval = 60

  package var takenAt: Date
  package var running: Int
  package var vcpus: Int
  package var memoryMiB: Int

  package init(takenAt: Date, running: Int, vcpus: Int, memoryMiB: Int) {
    self.takenAt = StoredTime.rounded(takenAt)
    self.running = running
    self.vcpus = vcpus
    self.memoryMiB = memoryMiB
  }

  /// The start of the interval of `seconds` that contains `time`; the same in every control plane.
  package static func start(of time: Date, every seconds: TimeInterval = interval) -> Date {
    Date(timeIntervalSince1970: (time.timeIntervalSince1970 / seconds).rounded(.down) * seconds)
  }
}
