import Concurrency
import Foundation
import HostAPI
import Logging
import Model
import Persistence

extension Monitor {
  /// How long fine samples are kept: a little longer than the longest time range that needs them.
  static let fineLoadRetention: TimeInterval = 25 * 3_600
  /// Upper bound on concurrent calls to guests.
  static let maximumLoadCalls = 8
  static let loadDeadline: Duration = .seconds(5)

  /// Once a minute samples the load of all guests, and deletes samples that no time range covers. A guest that does not
  /// respond gets no sample.
  func sampleLoad() async {
    let moment = UsageSample.start(of: now)
    guard beginLoadSample(at: moment) else { return }
    defer { endLoadSample() }
    do {
      try await repository.insertLoad(await load(of: try await repository.alive(), at: moment))
      try await repository.deleteLoad(
        before: moment.addingTimeInterval(-Self.usageRetention),
        fine: moment.addingTimeInterval(-Self.fineLoadRetention))
    } catch {
      logger.warning("load not sampled", metadata: [LogKey.error: "\(error)"])
    }
  }

  private func load(of records: [SandboxRecord], at moment: Date) async -> [SandboxID: LoadSample] {
    var remaining = records.filter { $0.status == .running }[...]
    return await withTaskGroup(of: (SandboxID, LoadSample?).self) { group in
      var samples: [SandboxID: LoadSample] = [:]
      for record in remaining.prefix(Self.maximumLoadCalls) {
        group.addTask { await self.load(of: record, at: moment) }
      }
      remaining = remaining.dropFirst(Self.maximumLoadCalls)
      for await (id, sample) in group {
        samples[id] = sample
        if let record = remaining.popFirst() { group.addTask { await self.load(of: record, at: moment) } }
      }
      return samples
    }
  }

  private func load(of record: SandboxRecord, at moment: Date) async -> (SandboxID, LoadSample?) {
    guard let hostID = record.facts.hostID, let host = await service.directory.host(hostID) else {
      return (record.id, nil)
    }
    let timeoutError = MartletError(.agentError, "the sandbox does not respond")
    let metrics = try? await waitAtMost(Self.loadDeadline, throwing: timeoutError) {
      try await host.metrics(of: record.id)
    }
    return (record.id, metrics.map { LoadSample($0, at: moment) })
  }
}

extension LoadSample {
  init(_ metrics: GuestMetrics, at time: Date) {
    self.init(
      takenAt: time, cpuPercent: metrics.cpuPercent, memoryBytes: metrics.memoryBytes,
      memoryTotalBytes: metrics.memoryTotalBytes,
      diskBytes: metrics.diskBytes, diskTotalBytes: metrics.diskTotalBytes)
  }
}
