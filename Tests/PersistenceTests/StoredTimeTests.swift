import Foundation
import Model
import Persistence
import Testing

@Suite struct StoredTimeTests {
  private static let extremes = [
    Date(timeIntervalSince1970: 9.4e12), Date(timeIntervalSince1970: -9.4e12), Date(timeIntervalSince1970: .infinity),
    Date(timeIntervalSince1970: -.infinity), Date(timeIntervalSince1970: .greatestFiniteMagnitude),
    Date(timeIntervalSince1970: .nan),
    .distantFuture, .distantPast, StoredTime.date(microseconds: .max), StoredTime.date(microseconds: .min),
  ]

  @Test("a time outside of the storable range is clamped to it", arguments: extremes.indices)
  func clamped(_ index: Int) {
    // Not passed as an argument: the textual description of these dates, which Swift Testing makes of arguments,
    // crashes the process.
    let time = Self.extremes[index]
    let (isInside, isStillInside) = (
      StoredTime.range.contains(StoredTime.microseconds(time)),
      StoredTime.range.contains(StoredTime.microseconds(StoredTime.rounded(time)))
    )
    #expect(isInside && isStillInside)
  }

  @Test("ordinary times are preserved to the microsecond")
  func ordinary() {
    for microseconds in [0, 1, -1, 1_700_000_000_123_456, -2_208_988_800_000_000] as [Int64] {
      #expect(StoredTime.microseconds(StoredTime.date(microseconds: microseconds)) == microseconds)
    }
  }

  @Test("filters and cursors accept the earliest and latest times", arguments: SQLDialect.allCases)
  func filters(dialect: SQLDialect) async throws {
    try await withDatabase(dialect) { database async throws -> Void in
      let team = try await makeTeam(database)
      let log = AuditRepository(database: database)
      try await log.append([audit(team)])
      for time in Self.extremes {
        let since = try await log.list(team: team, AuditFilter(since: time, limit: 10)).count
        let until = try await log.list(team: team, AuditFilter(until: time, limit: 10)).count
        #expect(since + until == 1)
      }
      let sandboxes = SandboxRepository(database: database)
      for microseconds in [Int64.max, .min] {
        let position = ListPosition(microseconds: microseconds, id: UUID())
        let cursor = SandboxCursor(createdAtMicroseconds: microseconds, id: SandboxID())
        _ = try await TeamRepository(database: database).teams(ListPage(limit: 5, after: position))
        #expect(try await sandboxes.list(SandboxFilter(limit: 5, after: cursor), team: team).isEmpty)
      }
    }
  }
}
