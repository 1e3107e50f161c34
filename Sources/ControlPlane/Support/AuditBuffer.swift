import Model
import Persistence

/// Audit rows that are not written yet, in order, of bounded number.
struct AuditBuffer {
  /// Beyond this many unwritten rows new ones are dropped: the database has been away for long.
  static let maximumPending = 50_000
  /// The share of one team, so that one that does much does not cost the others their rows.
  static let maximumPendingOfTeam = 20_000
  /// Rows that are written together.
  static let batchSize = 500

  private var rows: [AuditRecord] = []
  private var head = 0
  /// Of each team, those under way included.
  private var counts: [TeamID: Int] = [:]
  private var underWay = 0
  private var dropped = 0

  private var count: Int { rows.count - head + underWay }

  mutating func add(_ row: AuditRecord) {
    let ofTeam = counts[row.teamID] ?? 0
    guard count < Self.maximumPending, ofTeam < Self.maximumPendingOfTeam else {
      dropped += 1
      return
    }
    counts[row.teamID] = ofTeam + 1
    rows.append(row)
  }

  /// The oldest rows, to be written; `settle` tells what became of them. Empty when there are none.
  mutating func begin() -> [AuditRecord] {
    let batch = Array(rows[head...].prefix(Self.batchSize))
    head += batch.count
    underWay += batch.count
    return batch
  }

  /// - Parameter remaining: those of the batch that could not be written and are worth another try.
  mutating func settle(_ batch: [AuditRecord], remaining: [AuditRecord] = []) {
    underWay -= batch.count
    for row in batch { release(row.teamID) }
    for row in remaining { counts[row.teamID, default: 0] += 1 }
    rows.replaceSubrange(..<head, with: remaining)
    head = 0
  }

  /// How many rows were dropped since this was asked last.
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
