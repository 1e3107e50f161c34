import Foundation
import Model
import Persistence
import Testing

@Suite struct LoadSampleTests {
  /// The start of a quarter of an hour.
  private static let moment = Date(timeIntervalSince1970: 1_800_000_000)

  private func sample(_ minute: Int, cpu: Double = 1.25, memory: Int64 = 1 << 40) -> LoadSample {
    LoadSample(
      takenAt: Self.moment.addingTimeInterval(Double(minute) * 60), cpuPercent: cpu, memoryBytes: memory,
      memoryTotalBytes: 2, diskBytes: 3,
      diskTotalBytes: 4)
  }

  @Test("load samples are read as they were inserted, one per sandbox and time", arguments: SQLDialect.allCases)
  func samples(dialect: SQLDialect) async throws {
    try await withDatabase(dialect) { database async throws -> Void in
      let repository = SandboxRepository(database: database)
      let team = try await makeTeam(database)
      let records = (0..<2).map { _ in
        SandboxRecord(spec: SandboxSpec(teamID: team), status: .running, createdAt: Self.moment)
      }
      for record in records { try await repository.insert(record, audit: audit(team)) }
      let (one, other) = (records[0].id, records[1].id)
      try await repository.insertLoad([:])
      try await repository.insertLoad([one: sample(0), other: sample(0, cpu: 99.999)])
      try await repository.insertLoad([one: sample(0, cpu: 50)])
      for minute in 1...16 { try await repository.insertLoad([one: sample(minute)]) }
      #expect(try await repository.load(of: one, since: Self.moment) == (0...16).map { sample($0) })
      #expect(try await repository.load(of: other, since: .distantPast) == [sample(0, cpu: 99.999)])
      // The samples at quarters of an hour are retained longer.
      try await repository.deleteLoad(before: Self.moment, fine: sample(16).takenAt)
      #expect(try await repository.load(of: one, since: Self.moment) == [0, 15, 16].map { sample($0) })
      try await repository.deleteLoad(before: sample(15).takenAt, fine: sample(17).takenAt)
      #expect(try await repository.load(of: one, since: Self.moment) == [sample(15)])
    }
  }

  @Test("impossible values from a guest are clamped")
  func hostile() {
    for cpu in [Double.nan, -.infinity, .infinity, -1] { #expect(sample(0, cpu: cpu).cpuPercent == 0) }
    #expect(sample(0, cpu: 1e300).cpuPercent == 1e6)
    #expect(sample(0, memory: -5).memoryBytes == 0)
    let mean = LoadSample.mean(of: [sample(0, memory: .max), sample(1, memory: .max)], at: Self.moment)
    #expect(mean.memoryBytes == .max)
    #expect(
      LoadSample.mean(of: [sample(0, cpu: 1, memory: 2), sample(1, cpu: 2, memory: 4)], at: Self.moment)
        == sample(0, cpu: 1.5, memory: 3))
  }
}
