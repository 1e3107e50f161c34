import Foundation
import HostAPI
package import Model
package import Persistence

extension SandboxService {
  /// How busy a sandbox is at this moment. Does not count as activity: who watches a sandbox does not keep it awake.
  /// - Throws: `not_found`, `invalid_state` when it is not running, `host_unavailable`.
  package func metrics(of id: SandboxID, for caller: Caller) async throws -> LoadSample {
    let record = try await sandbox(id, for: caller)
    guard record.status == .running else { throw MartletError.invalidState(id, is: record.status, needs: "running") }
    let host = try await host(of: record)
    let metrics = try await guestCall { try await host.metrics(of: id) }
    return LoadSample(metrics, at: now)
  }

  /// How busy a sandbox was, oldest first, also one that does not run any more. Samples are taken once a minute; each
  /// point is the mean of its span, and spans without a sample are left out. The last point is of this moment when the
  /// sandbox runs and answers.
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
