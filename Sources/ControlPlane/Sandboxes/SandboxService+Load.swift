import Foundation
import HostAPI
package import Model
package import Persistence

extension SandboxService {
  /// The present load of a sandbox. Does not count as activity: watching a sandbox does not keep it from being paused.
  /// - Throws: `not_found`, `invalid_state` when it is not running, `host_unavailable`.
  package func metrics(of id: SandboxID, for caller: Caller) async throws -> LoadSample {
    let record = try await sandbox(id, for: caller)
    guard record.status == .running else { throw MartletError.invalidState(id, is: record.status, needs: "running") }
    let host = try await host(of: record)
    let metrics = try await guestCall { try await host.metrics(of: id) }
    return LoadSample(metrics, at: now)
  }

  /// The past load of a sandbox, oldest first, also of one that no longer runs. Samples are taken once a minute; each
  /// point is the mean of its interval, and intervals without a sample are omitted. If the sandbox runs and responds,
  /// the last point is its present load.
  /// - Throws: `not_found`.
  package func metrics(of id: SandboxID, _ range: StatisticsRange, for caller: Caller) async throws -> [LoadSample] {
    let record = try await sandbox(id, for: caller)
    let samples = try await repository.load(of: id, since: now.addingTimeInterval(-range.duration))
    let series = Self.series(samples, step: range.step)
    guard record.status == .running, let current = try? await metrics(of: id, for: caller) else { return series }
    return series + [current]
  }

  private static func series(_ samples: [LoadSample], step: TimeInterval) -> [LoadSample] {
    var spans: [(start: Date, samples: [LoadSample])] = []
    for sample in samples {
      let start = UsageSample.start(of: sample.takenAt, every: step)
      if spans.last?.start == start {
        spans[spans.count - 1].samples.append(sample)
      } else {
        spans.append((start, [sample]))
      }
    }
    return spans.map { LoadSample.mean(of: $0.samples, at: $0.start) }
  }
}
