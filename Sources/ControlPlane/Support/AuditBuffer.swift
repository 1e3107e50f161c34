import Model
import Persistence

/// A bounded queue of audit rows that are not written yet.
struct AuditBuffer {
  /// New rows are dropped when this many are unwritten, because the database has been unavailable for long.
  static let maximumPending = 50_000
  /// The bound per team, so that a busy team does not displace the rows of others.
  static let maximumPendingOfTeam = 20_000
  /// The number of rows that are written together.
  static let batchSize = 500

  private var rows: [AuditRecord] = []
  private var head = 0
  /// The number of rows per team, including those being written.
  private var counts: [TeamID: Int] = [:]
  private var inProgress = 0
  private var dropped = 0

  private var count: Int { rows.count - head + inProgress }

  mutating func add(_ row: AuditRecord) {
    let ofTeam = counts[row.teamID] ?? 0
    guard count < Self.maximumPending, ofTeam < Self.maximumPendingOfTeam else {
      dropped += 1
      return
    }
    counts[row.teamID] = ofTeam + 1
    rows.append(row)
  }

  /// Takes the oldest rows, to be written; `settle` reports the result. Empty when there are none.
  mutating func begin() -> [AuditRecord] {
    let batch = Array(rows[head...].prefix(Self.batchSize))
    head += batch.count
    inProgress += batch.count
    return batch
  }

  /// - Parameter remaining: rows of the batch that could not be written and will be retried.
  mutating func settle(_ batch: [AuditRecord], remaining: [AuditRecord] = []) {
    inProgress -= batch.count
    for row in batch { release(row.teamID) }
    for row in remaining { counts[row.teamID, default: 0] += 1 }
    rows.replaceSubrange(..<head, with: remaining)
    head = 0
  }

  /// The number of rows that were dropped since the last call.
  mutating func takeDropped() -> Int {
    defer { dropped = 0 }
    return dropped
  }

  mutating func drop(_ number: Int) { dropped += number }

  private mutating func release(_ team: TeamID) {
    guard let count = counts[team] else { return }
    counts[team] = count > 1 ? count - 1 : nil
  }
}
