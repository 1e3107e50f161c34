import Foundation
import Model
import Persistence
import Testing

@Suite struct UsageSampleTests {
  private static let moment = Date(timeIntervalSince1970: 1_800_000_000)

  private func insert(_ repository: SandboxRepository, _ team: TeamID, _ status: SandboxStatus, vcpus: Int) async throws
  {
    let record = SandboxRecord(
      spec: SandboxSpec(teamID: team, vcpus: vcpus, memoryMiB: 256), status: status, createdAt: Self.moment)
    try await repository.insert(record, audit: audit(team, "sandbox.create"))
  }

  @Test("running sandboxes are sampled per team, once per time", arguments: SQLDialect.allCases)
  func samples(dialect: SQLDialect) async throws {
    try await withDatabase(dialect) { database async throws -> Void in
      let repository = SandboxRepository(database: database)
      let (busy, idle) = (try await makeTeam(database), try await makeTeam(database))
      try await insert(repository, busy, .running, vcpus: 2)
      try await insert(repository, busy, .starting, vcpus: 3)
      for status in [SandboxStatus.paused, .stopped, .error, .destroying] {
        try await insert(repository, busy, status, vcpus: 8)
      }
      try await insert(repository, idle, .paused, vcpus: 1)
      try await repository.insertUsageSamples(at: Self.moment)
      try await insert(repository, busy, .running, vcpus: 4)
      try await repository.insertUsageSamples(at: Self.moment)
      let later = Self.moment.addingTimeInterval(UsageSample.interval)
      try await repository.insertUsageSamples(at: later)
      let expected = [
        UsageSample(takenAt: Self.moment, running: 2, vcpus: 5, memoryMiB: 512),
        UsageSample(takenAt: later, running: 3, vcpus: 9, memoryMiB: 768),
      ]
      #expect(try await repository.usageSamples(of: busy, since: Self.moment) == expected)
      #expect(try await repository.usageSamples(of: busy, since: later) == [expected[1]])
      #expect(try await repository.usageSamples(of: idle, since: .distantPast).isEmpty)
      try await repository.deleteUsageSamples(before: later)
      #expect(try await repository.usageSamples(of: busy, since: Self.moment) == [expected[1]])
    }
  }
}
