package import Foundation
import Model

/// What a team had running at one moment.
package struct UsageSample: Sendable, Equatable {
  /// Samples are taken at most this often, at the start of such a span.
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

  /// The start of the span of `seconds` that `time` lies in; the same in every control plane.
  package static func start(of time: Date, every seconds: TimeInterval = interval) -> Date {
    Date(timeIntervalSince1970: (time.timeIntervalSince1970 / seconds).rounded(.down) * seconds)
  }
}
