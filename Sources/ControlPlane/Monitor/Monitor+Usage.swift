import Foundation
import Logging
import Model
import Persistence

extension Monitor {
  /// How long usage samples are kept: a little longer than the longest time range of statistics.
  static let usageRetention: TimeInterval = 8 * 86_400

  /// Once a minute records what every team has running, and deletes expired samples.
  func sampleUsage() async {
    let moment = UsageSample.start(of: now)
    guard beginUsageSample(at: moment) else { return }
    do {
      try await repository.insertUsageSamples(at: moment)
      try await repository.deleteUsageSamples(before: moment.addingTimeInterval(-Self.usageRetention))
    } catch {
      logger.warning("usage not sampled", metadata: [LogKey.error: "\(error)"])
    }
  }
}
