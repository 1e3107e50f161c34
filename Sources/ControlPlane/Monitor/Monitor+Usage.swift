import Foundation
import Logging
import Model
import Persistence

extension Monitor {
  /// The longest span that statistics look back over, and a little more.
  static let usageRetention: TimeInterval = 8 * 86_400

  /// Once a minute writes what every team has running, and forgets what is too old for anybody to ask for.
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
