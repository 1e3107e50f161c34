import Concurrency
import Foundation
import HostAPI
import Logging
import Model
import Persistence

extension Monitor {
  /// A little more than the longest range whose points are narrower than `LoadSample.coarseInterval` × 2.
  static let fineLoadRetention: TimeInterval = 25 * 3_600
  /// Guests that are asked at the same time.
  static let maximumLoadCalls = 8
  static let loadDeadline: Duration = .seconds(5)

  /// Once a minute asks every guest how busy it is, writes it, and forgets what is too old for anybody to ask for. A
  /// guest that does not answer has no sample.
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
    var rest = records.filter { $0.status == .running }[...]
    return await withTaskGroup(of: (SandboxID, LoadSample?).self) { group in
      var samples: [SandboxID: LoadSample] = [:]
      for record in rest.prefix(Self.maximumLoadCalls) { group.addTask { await self.load(of: record, at: moment) } }
      rest = rest.dropFirst(Self.maximumLoadCalls)
      for await (id, sample) in group {
        samples[id] = sample
        if let record = rest.popFirst() { group.addTask { await self.load(of: record, at: moment) } }
      }
      return samples
    }
  }

  private func load(of record: SandboxRecord, at moment: Date) async -> (SandboxID, LoadSample?) {
    guard let hostID = record.facts.hostID, let host = await service.directory.host(hostID) else {
      return (record.id, nil)
    }
    let late = MartletError(.agentError, "the sandbox does not answer")
    let metrics = try? await waitAtMost(Self.loadDeadline, throwing: late) { try await host.metrics(of: record.id) }
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
